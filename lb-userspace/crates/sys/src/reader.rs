//! Output files: reading the end of one that may be large, and setting one aside.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

/// Bytes looked at from the end.
const WINDOW: u64 = 16 * 1024;

/// The last `count` lines of a file, control characters replaced: a server's output must not
/// drive the operator's terminal.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
    let mut bytes = Vec::new();
    file.take(WINDOW).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines
        .iter()
        .skip(lines.len().saturating_sub(count))
        .map(|line| printable(line))
        .collect())
}

/// Where the former part of an output goes.
pub fn aside(output: &Path) -> PathBuf {
    output.with_extension("log.1")
}

/// Moves an output aside, so that a new one begins empty.
pub fn set_aside(output: &Path) -> io::Result<()> {
    match std::fs::rename(output, aside(output)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The text with control characters replaced.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn gives_the_end_without_control_characters() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for n in 0..5000 {
            writeln!(file, "line {n}\u{1b}[31m").unwrap();
        }
        let lines = last_lines(file.path(), 2).unwrap();
        assert_eq!(lines, ["line 4998\u{fffd}[31m", "line 4999\u{fffd}[31m"]);
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(last_lines(empty.path(), 3).unwrap().is_empty());
    }
}
