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
        let found = !exempt && self.closed.has(file, path);
        let message = || format!("`{}`: {}", path.segments.join("::"), self.message);
        found.then(|| Finding::at(file, path.line, message()))
    }
}

impl Closed {
    fn has(self, file: &str, path: &NamedPath) -> bool {
        let segments: Vec<_> = path.segments.iter().map(String::as_str).collect();
        match self {
            Self::Word(word) => segments == [word],
            Self::Crates(crates) => {
                let is_path = path.imported || segments.len() > 1;
                is_path && segments.first().is_some_and(|first| crates.contains(first))
            }
            Self::Begins(beginnings) => beginnings.iter().any(|start| segments.starts_with(start)),
            Self::Ends(ends) => ends.iter().any(|end| segments.ends_with(end)),
            Self::Modules(modules) => {
                let top = top_module(file, path);
                top.is_some_and(|top| modules.contains(&top.as_str()))
            }
        }
    }
}

/// The top module of its own crate that `path` leads into, if it says `crate`, `self` or `super`
/// or names the library from its binary.
fn top_module(file: &str, path: &NamedPath) -> Option<String> {
    let mut place = modules_of(file);
    place.extend(path.modules.iter().cloned());
    let mut segments = path.segments.iter().peekable();
    match segments.next()?.as_str() {
        "crate" | "hotlb" => place.clear(),
        "self" => {}
        "super" => drop(place.pop()),
        _ => return None,
    }
    while segments.next_if(|segment| *segment == "super").is_some() {
        place.pop();
    }
    place.extend(segments.cloned());
    place.into_iter().next()
}

/// The path of the module a file is: `cli/mod.rs` and `cli.rs` are `cli`.
fn modules_of(file: &str) -> Vec<String> {
    let inside = file.split_once("/src/").map_or(file, |(_, inside)| inside);
    let stem = inside.trim_end_matches(".rs");
    let mut modules: Vec<_> = stem.split('/').map(str::to_owned).collect();
    if matches!(
        modules.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        modules.pop();
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(file: &str, text: &str) -> usize {
        check(&Sources::of(&[(file, text)])).len()
    }

    #[test]
    fn aya_stays_in_datapath() {
        assert_eq!(
            findings("lb-userspace/src/agent/mod.rs", "use aya::Ebpf;"),
            1
        );
        assert_eq!(
            findings("lb-userspace/src/agent/mod.rs", "use {aya as a, b::c};"),
            1
        );
        assert_eq!(
            findings("tests/tests/it/crash.rs", "fn f() { aya_log::x() }"),
            1
        );
        assert_eq!(
            findings("lb-userspace/src/datapath/mod.rs", "use aya::Ebpf;"),
            0
        );
        assert_eq!(
            findings(
                "lb-userspace/src/agent/mod.rs",
                "// aya::Ebpf\nlet aya = 1;"
            ),
            0
        );
    }

    #[test]
    fn unsafe_code_stays_in_sys() {
        assert_eq!(
            findings("lb-userspace/src/agent/mod.rs", "fn f() { unsafe { g() } }"),
            1
        );
        assert_eq!(
            findings("lb-userspace/src/sys/bpf.rs", "fn f() { unsafe { g() } }"),
            0
        );
        assert_eq!(
            findings("lb-common/src/lib.rs", "#![forbid(unsafe_code)]"),
            0
        );
    }

    #[test]
    fn time_is_read_in_clock_alone() {
        let text = "fn f() { std::time::Instant::now(); } #[cfg(test)] mod t { fn g() { Instant::now(); } }";
        assert_eq!(findings("lb-userspace/src/api/mod.rs", text), 1);
        assert_eq!(findings("lb-userspace/src/clock.rs", text), 0);
        assert_eq!(findings("tests/src/wait.rs", text), 0);
    }

    #[test]
    fn rollout_is_pure() {
        let text = "use std::{collections::BTreeMap, fs}; use tracing::info;";
        assert_eq!(findings("lb-userspace/src/rollout/decide.rs", text), 2);
    }

    #[test]
    fn cli_may_have_a_file_called_agent() {
        assert_eq!(
            findings("lb-userspace/src/cli/run.rs", "use super::agent;"),
            0
        );
        assert_eq!(
            findings("lb-userspace/src/cli/mod.rs", "use self::agent::Arguments;"),
            0
        );
        assert_eq!(
            findings("lb-userspace/src/cli/run.rs", "use crate::cli::agent;"),
            0
        );
    }

    #[test]
    fn cli_may_not_reach_the_agent() {
        assert_eq!(
            findings(
                "lb-userspace/src/cli/run.rs",
                "use crate::{api, agent::Agent};"
            ),
            1
        );
        assert_eq!(
            findings(
                "lb-userspace/src/cli/run.rs",
                "use super::super::generation::X;"
            ),
            1
        );
        let nested = "mod inner { use super::super::super::datapath; }";
        assert_eq!(findings("lb-userspace/src/cli/run.rs", nested), 1);
    }

    #[test]
    fn anyhow_is_for_the_edges() {
        assert_eq!(
            findings("lb-userspace/src/store/mod.rs", "use anyhow::Result;"),
            1
        );
        assert_eq!(
            findings("lb-userspace/src/main.rs", "use anyhow::Result;"),
            0
        );
        assert_eq!(findings("xtask/src/main.rs", "use anyhow::Result;"), 0);
    }
}
