//! Every promise names tests that exist.

use super::{finding::Finding, sources::Sources};

const GUARANTEES: &str = "docs/guarantees.md";
const TESTS: &str = "tests/tests/it/";

/// What a paragraph that begins so names until [`UNIT`] are integration tests: `module::name`, `*` for the rest of a name.
const PROOF: &str = "Proved by ";
const UNIT: &str = "*unit*";

/// Tests that a promise names and that are not there.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let text = sources.text(GUARANTEES);
    let proofs = text
        .split("\n\n")
        .filter_map(|part| part.trim_start().strip_prefix(PROOF));
    let integration = proofs.map(|proof| proof.split(UNIT).next().unwrap_or_default());
    let codes = integration.flat_map(|proof| proof.split('`').skip(1).step_by(2));
    let tests = codes.filter_map(|code| code.split_once("::"));
    let missing = tests.filter(|(file, name)| !exists(sources, file, name));
    missing
        .map(|(file, name)| {
            let words = format!("{file}::{name} proves a promise, but is not in {TESTS}");
            Finding::whole(GUARANTEES, words)
        })
        .collect()
}

fn exists(sources: &Sources, file: &str, name: &str) -> bool {
    sources.rust().any(|(source, text)| {
        let module = source.name.strip_prefix(TESTS);
        let module = module.and_then(|module| module.strip_suffix(".rs"));
        module.is_some_and(|module| matches(file, module))
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
        let findings: Vec<_> = check(&sources).iter().map(ToString::to_string).collect();
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains("one::fails"), "{findings:?}");
        assert!(findings[1].contains("two::*"), "{findings:?}");
    }
}
