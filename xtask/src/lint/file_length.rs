//! Rust files stay short enough to be read in one go. A table of data may be long.

use super::{finding::Finding, sources::Sources};

/// More lines than this need a reason.
const LONGEST: usize = 500;
/// Begins a comment, among the first lines of a file, that says why the file may be long.
const MARKER: &str = "// long file: ";
/// How far down the comment is looked for.
const HEAD: usize = 30;

/// Every Rust file that is too long and does not say why.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let long = sources.rust().filter_map(|(file, text)| {
        let lines = text.lines().count();
        let too_long = lines > LONGEST && !says_why(text);
        too_long.then(|| Finding::whole(&file.name, message(lines)))
    });
    long.collect()
}

fn says_why(text: &str) -> bool {
    let mut head = text.lines().take(HEAD);
    head.any(|line| {
        line.strip_prefix(MARKER)
            .is_some_and(|reason| !reason.trim().is_empty())
    })
}

fn message(lines: usize) -> String {
    format!("{lines} lines, more than {LONGEST}: split it, or if it is a table say so: `{MARKER}…`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&Sources::of(&[("a.rs", text)])).len()
    }

    #[test]
    fn five_hundred_lines_are_the_most() {
        assert_eq!(findings(&"\n".repeat(500)), 0);
        assert_eq!(findings(&"\n".repeat(501)), 1);
    }

    #[test]
    fn a_table_may_be_long_if_it_says_so() {
        let rest = "\n".repeat(501);
        assert_eq!(
            findings(&format!(
                "//! Codes.\n\n// long file: the table of codes{rest}"
            )),
            0
        );
        assert_eq!(findings(&format!("// long file: {rest}")), 1);
    }
}
