//! Every promise names tests that exist, and so do the lists of quick tests and of those that measure. No test is where
//! nobody runs it.

use super::{finding::Finding, sources::Sources};
use crate::test::{measuring::MEASURING, quick::QUICK};

const GUARANTEES: &str = "docs/user/guarantees.md";
const LIST: &str = "xtask/src/test/quick.rs";
const ALONE: &str = "xtask/src/test/measuring.rs";
const TESTS: &str = "tests/tests/it/";

/// What a paragraph that begins so names until [`UNIT`] are integration tests: `module::name`, `*` for the rest of a name.
const PROOF: &str = "Proved by ";
const UNIT: &str = "*unit*";

/// Tests that are named and not there.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let mut findings = proofs(sources);
    findings.extend(quick(sources, &QUICK));
    findings.extend(measuring(sources, &MEASURING));
    findings.extend(of_programs(sources));
    findings.extend(examples(sources));
    findings
}

fn proofs(sources: &Sources) -> Vec<Finding> {
    let text = sources.text(GUARANTEES);
    let proofs = text
        .split("\n\n")
        .filter_map(|part| part.trim_start().strip_prefix(PROOF));
    let integration = proofs.map(|proof| proof.split(UNIT).next().unwrap_or_default());
    let codes = integration.flat_map(|proof| proof.split('`').skip(1).step_by(2));
    let tests = codes.filter_map(|code| code.split_once("::"));
    let missing = tests.filter(|(module, name)| !exists(sources, module, name));
    missing
        .map(|(module, name)| {
            let words = format!("{module}::{name} proves a promise, but is not in {TESTS}");
            Finding::whole(GUARANTEES, words)
        })
        .collect()
}

/// Quick tests that are not there: libtest runs what is left of a list and says nothing.
fn quick(sources: &Sources, tests: &[&str]) -> Vec<Finding> {
    let is_there = |test: &str| {
        test.split_once("::")
            .is_some_and(|(module, name)| exists(sources, module, name))
    };
    tests
        .iter()
        .filter(|test| !is_there(test))
        .map(|test| Finding::whole(LIST, format!("{test} is quick, but is not in {TESTS}")))
        .collect()
}

/// Modules and tests that are not there: libtest runs what is left.
fn measuring(sources: &Sources, names: &[&str]) -> Vec<Finding> {
    let is_there = |name: &str| match name.split_once("::") {
        Some((module, "")) => exists(sources, module, "*"),
        Some((module, test)) => exists(sources, module, test),
        None => false,
    };
    let missing = names.iter().filter(|name| !is_there(name));
    missing
        .map(|name| Finding::whole(ALONE, format!("{name} measures, but is not in {TESTS}")))
        .collect()
}

/// Tests in programs: `cargo xtask test` runs those of libraries.
fn of_programs(sources: &Sources) -> Vec<Finding> {
    let is_programs = |name: &str| {
        let is_main = name.ends_with("src/main.rs") && !name.starts_with("xtask/");
        is_main || name.contains("/src/bin/")
    };
    let of_programs = sources
        .rust()
        .filter(|(source, _)| is_programs(&source.name));
    let tests = ["#[test]", "#[tokio::test"];
    let tested = of_programs.filter(|(_, text)| tests.iter().any(|test| text.contains(test)));
    tested
        .map(|(source, _)| {
            let words = "it is a program's test, which is not run: move it to a library";
            Finding::whole(&source.name, words)
        })
        .collect()
}

/// Examples in comments, which rustdoc would run: `cargo xtask test` does not, since to look for them takes a minute.
fn examples(sources: &Sources) -> Vec<Finding> {
    let with_examples = sources.rust().filter(|(_, text)| has_example(text));
    with_examples
        .map(|(source, _)| {
            let words = "it has an example in a comment, which is not run: make it a test, or mark it as text";
            Finding::whole(&source.name, words)
        })
        .collect()
}

fn has_example(text: &str) -> bool {
    let mut is_open = false;
    text.lines().any(|line| {
        let comment = line.trim_start();
        let comment = comment.strip_prefix("///").or(comment.strip_prefix("//!"));
        let Some(comment) = comment.map(str::trim) else {
            is_open = false;
            return false;
        };
        let is_fence = comment.starts_with("```");
        is_open ^= is_fence;
        is_fence && is_open && comment == "```"
    })
}

fn exists(sources: &Sources, wanted: &str, name: &str) -> bool {
    sources.rust().any(|(source, text)| {
        let module = source.name.strip_prefix(TESTS);
        let module = module.and_then(|module| module.strip_suffix(".rs"));
        module.is_some_and(|module| matches(wanted, module))
            && text.split("\nfn ").skip(1).any(|function| {
                let called = function.split('(').next().unwrap_or_default();
                matches(name, called)
            })
    })
}

/// Whether it is called so; a `*` at the end of `wanted` stands for any rest.
fn matches(wanted: &str, name: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_gone_is_found() {
        let guarantees = "Proved by `one::works`, `one::*`,\n`o*::wor*` and `plain-server`; *unit*: `lib::x`.\n\n\
                          Proved by `one::fails`, `two::*`.\n\n`three::works` is no proof.\n";
        let sources = Sources::of(&[
            (GUARANTEES, guarantees),
            ("tests/tests/it/one.rs", "#[test]\nfn works() {}\n"),
        ]);
        let findings: Vec<_> = proofs(&sources).iter().map(ToString::to_string).collect();
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains("one::fails"), "{findings:?}");
        assert!(findings[1].contains("two::*"), "{findings:?}");
    }

    #[test]
    fn a_quick_test_that_is_gone_is_found() {
        let sources = Sources::of(&[("tests/tests/it/one.rs", "#[test]\nfn works() {}\n")]);
        let tests = ["one::works", "one::fails", "two::works", "works"];
        let findings: Vec<_> = quick(&sources, &tests)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(findings[0].contains("one::fails"), "{findings:?}");
    }
    #[test]
    fn a_module_that_is_gone_measures_nothing() {
        let sources = Sources::of(&[("tests/tests/it/one.rs", "#[test]\nfn works() {}\n")]);
        let names = ["one::", "one::works", "two::", "one", "one::fails"];
        let findings = measuring(&sources, &names);
        let findings: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(findings[0].contains("two::"), "{findings:?}");
    }

    #[test]
    fn a_test_of_a_program_is_found() {
        let test = "#[test]\nfn works() {}\n";
        let sources = Sources::of(&[
            ("tests/src/bin/one/part.rs", test),
            ("lb-userspace/src/main.rs", test),
            ("xtask/src/main.rs", test),
            ("tests/src/lib.rs", test),
        ]);
        assert_eq!(of_programs(&sources).len(), 2);
    }

    #[test]
    fn an_example_in_a_comment_is_found() {
        let sources = Sources::of(&[
            (
                "a/src/lib.rs",
                "    /// ```\n    /// works();\n    /// ```\nfn works() {}\n",
            ),
            ("b/src/lib.rs", "/// ```text\n/// a -> b\n/// ```\n"),
        ]);
        assert_eq!(examples(&sources).len(), 1);
    }
}
