//! Which part of the project may name what.

use super::{
    borders::{BORDERS, Border, Closed},
    finding::Finding,
    paths::{self, NamedPath},
    sources::Sources,
};

/// Every path that is named where it may not be.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in sources.rust() {
        let paths = match paths::in_file(text) {
            Ok(paths) => paths,
            Err(error) => {
                findings.push(Finding::whole(&file.name, error.to_string()));
                continue;
            }
        };
        let borders = BORDERS.iter().filter(|border| border.holds_in(&file.name));
        for border in borders {
            findings.extend(
                paths
                    .iter()
                    .filter_map(|path| border.finding(&file.name, path)),
            );
        }
    }
    findings
}

impl Border {
    fn finding(&self, file: &str, path: &NamedPath) -> Option<Finding> {
        let exempt = self.except_unit_tests && path.in_test;
        let found = !exempt && self.closed.has(path);
        let message = || format!("`{}`: {}", path.segments.join("::"), self.message);
        found.then(|| Finding::at(file, path.line, message()))
    }
}

impl Closed {
    fn has(self, path: &NamedPath) -> bool {
        let segments: Vec<_> = path.segments.iter().map(String::as_str).collect();
        match self {
            Self::Word(word) => segments == [word],
            Self::Begins(beginnings) => beginnings.iter().any(|start| segments.starts_with(start)),
            Self::Ends(ends) => ends.iter().any(|end| segments.ends_with(end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(file: &str, text: &str) -> usize {
        check(&Sources::of(&[(file, text)])).len()
    }

    #[test]
    fn unsafe_code_stays_in_sys() {
        let text = "fn f() { unsafe { g() } }";
        assert_eq!(findings("tests/src/held.rs", text), 1);
        assert_eq!(findings("lb-userspace/crates/sys/src/bpf.rs", text), 0);
        assert_eq!(findings("xtask/src/main.rs", "#![forbid(unsafe_code)]"), 0);
    }

    #[test]
    fn time_is_read_in_clock_alone() {
        let text = "fn f() { std::time::Instant::now(); } #[cfg(test)] mod t { fn g() { Instant::now(); } }";
        assert_eq!(
            findings("lb-userspace/crates/agent/src/api/mod.rs", text),
            1
        );
        assert_eq!(findings("lb-userspace/crates/sys/src/clock.rs", text), 0);
        assert_eq!(findings("tests/src/wait.rs", text), 0);
    }

    #[test]
    fn rollout_is_pure() {
        let text = "use std::{collections::BTreeMap, fs, time::Instant};";
        assert_eq!(
            findings("lb-userspace/crates/core/src/rollout/decide.rs", text),
            2
        );
    }
}
