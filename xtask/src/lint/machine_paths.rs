//! No file names a directory of somebody's machine.

use super::{finding::Finding, sources::Sources};

/// Directories that exist on some machines only. Written in pieces, as this file is looked at too.
const DIRECTORIES: [&str; 3] = [
    concat!("/", "work", "/"),
    concat!("/", "root", "/"),
    concat!("/", "home", "/"),
];

/// Every line of every file, binary files too, that names such a directory.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &sources.files {
        for (index, line) in file.content.split(|byte| *byte == b'\n').enumerate() {
            let named = DIRECTORIES
                .iter()
                .filter(|directory| names(line, directory.as_bytes()));
            let message = |directory| format!("names `{directory}`, a place on one machine");
            findings.extend(named.map(|found| Finding::at(&file.name, index + 1, message(found))));
        }
    }
    findings
}

/// Whether a path in `line` begins with `directory`: it is not the tail of another path or a URL.
fn names(line: &[u8], directory: &[u8]) -> bool {
    let mut windows = line.windows(directory.len()).enumerate();
    windows.any(|(start, window)| {
        let before = start.checked_sub(1).and_then(|index| line.get(index));
        window == directory && !before.is_some_and(|byte| continues_a_path(*byte))
    })
}

fn continues_a_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-}".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&Sources::of(&[("README.md", text)])).len()
    }

    #[test]
    fn a_directory_of_a_machine_is_found() {
        for [first, second] in [
            ["cd /wo", "rk/x"],
            ["=/ro", "ot/.cargo"],
            ["(/ho", "me/me)"],
        ] {
            assert_eq!(
                findings(&format!("\n{first}{second}")),
                1,
                "{first}{second}"
            );
        }
    }

    #[test]
    fn the_tail_of_another_path_is_not() {
        for [first, second] in [
            ["example.org/wo", "rk/x"],
            ["net/ho", "me/"],
            ["$DIR/ro", "ot"],
        ] {
            assert_eq!(findings(&format!("{first}{second}")), 0, "{first}{second}");
        }
    }
}
