//! What the integration tests write to the file named by `HOTLB_TEST_REPORT`: lines of
//! `figure NAME VALUE` and `skip TEST REASON`, separated by tabs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Figures and skips, in the order they came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// What was measured: name and value.
    figures: Vec<(String, String)>,
    /// What did not run: test and reason.
    pub(super) skips: Vec<(String, String)>,
}

impl Report {
    /// Removes an older report; gives the name for the new one.
    pub(super) fn begin(target: &Path) -> Result<PathBuf> {
        let file = super::report_file(target);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| file.display().to_string())
            }
            _ => Ok(file),
        }
    }

    /// Reads a report; no file means that nothing was reported.
    pub(super) fn read(file: &Path) -> Result<Self> {
        match fs::read_to_string(file) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }

    /// A line of another form counts as a skip, so that it is seen.
    fn parse(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            match line.splitn(3, '\t').collect::<Vec<_>>()[..] {
                ["figure", name, value] => report.figures.push(row(name, value)),
                ["skip", test, reason] => report.skips.push(row(test, reason)),
                _ => report.skips.push(row("a line of the report", line)),
            }
        }
        report
    }

    /// Prints both tables.
    pub(super) fn show(&self) {
        print(&format!("{} figures", self.figures.len()), &self.figures);
        print(&format!("{} skips", self.skips.len()), &self.skips);
    }
}

fn row(name: &str, text: &str) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

fn print(title: &str, rows: &[(String, String)]) {
    println!("\n{title}");
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or_default();
    for (name, text) in rows {
        println!("  {name:width$}  {text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_skips_and_anything_else() {
        let report = Report::parse("figure\tp99\t1.2 ms\nskip\tnode\tnot\tthere\nnonsense");
        assert_eq!(report.figures, [row("p99", "1.2 ms")]);
        let skips = [
            row("node", "not\tthere"),
            row("a line of the report", "nonsense"),
        ];
        assert_eq!(report.skips, skips);
    }

    #[test]
    fn an_older_report_is_forgotten() {
        let target = tempfile::tempdir().unwrap();
        let file = Report::begin(target.path()).unwrap();
        fs::write(&file, "skip\tx\ty").unwrap();
        assert_eq!(Report::read(&file).unwrap().skips.len(), 1);
        assert_eq!(Report::begin(target.path()).unwrap(), file);
        assert_eq!(Report::read(&file).unwrap(), Report::default());
    }
}
