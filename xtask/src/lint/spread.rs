//! A type's own methods stand in few files: what is spread over more has too much to do. One that only hands on what it is
//! asked has them in one, and a short one.

use std::collections::{BTreeMap, BTreeSet};

use super::{finding::Finding, sources::Sources};

/// Files that a type may have `impl` blocks in, but for traits.
const MOST: usize = 3;
/// Types that are spread further, and over how many files at most. Each is to become less.
const ALLOWED: [(&str, usize); 0] = [];
/// Types that only hand on what they are asked.
const FACADES: [Facade; 1] = [Facade {
    of: "lb-userspace/crates/agent",
    name: "Service",
    lines: 200,
}];

/// A type that only hands on what it is asked.
struct Facade {
    /// Its crate.
    of: &'static str,
    name: &'static str,
    /// So many at most has the one file with its `impl` blocks.
    lines: usize,
}

/// The files that a type has `impl` blocks in, by its crate and its name.
type Spread<'a> = BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>;

/// Types that are spread over too many files or allowed more than they need, and facades that do more than to hand on.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let spread = spread(sources);
    let mut findings = too_far(&spread, &ALLOWED);
    findings.extend(too_much(sources, &spread, &FACADES));
    findings
}

fn spread(sources: &Sources) -> Spread<'_> {
    let mut spread = Spread::new();
    for (file, text) in sources.rust() {
        let of = file.name.split("/src/").next().unwrap_or_default();
        for name in text.lines().filter_map(own) {
            spread.entry((of, name)).or_default().insert(&file.name);
        }
    }
    spread
}

fn too_far(spread: &Spread<'_>, allowed: &[(&str, usize)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ((_, name), files) in spread {
        let known = allowed.iter().find(|(allowed, _)| allowed == name);
        let most = known.map_or(MOST, |&(_, most)| most);
        if let Some(first) = files.first().filter(|_| files.len() > most) {
            let words = format!(
                "{name} has `impl` blocks in {} files, more than {most}: give a part of it its own type",
                files.len()
            );
            findings.push(Finding::whole(first, words));
        }
    }
    for (name, most) in allowed {
        let files = spread.iter().filter(|((_, of), _)| of == name);
        let files = files.map(|(_, files)| files.len()).max();
        if files.unwrap_or_default() < *most {
            let words = format!("{name} is allowed {most} files and needs fewer");
            findings.push(Finding::whole("xtask/src/lint/spread.rs", words));
        }
    }
    findings
}

/// Facades that do more than to hand on.
fn too_much(sources: &Sources, spread: &Spread<'_>, facades: &[Facade]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Facade { of, name, lines } in facades {
        let files: Vec<&str> = spread
            .get(&(*of, *name))
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let [file] = files[..] else {
            let words = format!(
                "{name} of {of} has `impl` blocks in {} files, and only hands on what it is asked: leave it one, and \
                 give the rest to its parts",
                files.len()
            );
            let first = files.first().copied();
            findings.push(Finding::whole(first.unwrap_or(of), words));
            continue;
        };
        let there = sources.text(file).lines().count();
        if there > *lines {
            let words = format!(
                "{there} lines, more than {lines}: {name} only hands on what it is asked; give the rest to its parts"
            );
            findings.push(Finding::whole(file, words));
        }
    }
    findings
}

/// The type that an `impl` block without a trait begins for.
fn own(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("impl")?;
    let rest = match rest.strip_prefix('<') {
        Some(generic) => generic.split_once("> ")?.1,
        None => rest.strip_prefix(' ')?,
    };
    if rest.contains(" for ") || !rest.ends_with('{') {
        return None;
    }
    rest.split([' ', '<', '{']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_in_four_files_is_found_once_and_its_traits_are_not() {
        let text = "impl One {\n}\n\nimpl<T> Two<T> {\n}\n\nimpl Drop for One {\n}\n";
        let four: Vec<(String, &str)> = (0..4).map(|n| (format!("a/src/{n}.rs"), text)).collect();
        let four: Vec<(&str, &str)> = four.iter().map(|(n, t)| (n.as_str(), *t)).collect();
        let said = |files: &[(&str, &str)], allowed: &[(&str, usize)]| {
            let findings = too_far(&spread(&Sources::of(files)), allowed);
            findings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let found = said(&four, &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("One has `impl` blocks in 4 files"),
            "{found:?}"
        );
        assert_eq!(said(&four[..3], &[]).len(), 0);
        assert_eq!(said(&four, &[("One", 4), ("Two", 4)]).len(), 0);
        let stale = said(&four[..3], &[("One", 4)]);
        assert!(stale[0].contains("needs fewer"), "{stale:?}");
    }

    #[test]
    fn a_facade_that_is_spread_long_or_gone_is_found() {
        let facades = [Facade {
            of: "a",
            name: "One",
            lines: 3,
        }];
        let said = |files: &[(&str, &str)]| {
            let sources = Sources::of(files);
            let findings = too_much(&sources, &spread(&sources), &facades);
            findings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let short = "impl One {\n    fn go() {}\n}\n";
        let of_another = ("b/src/3.rs", short);
        assert_eq!(said(&[("a/src/1.rs", short), of_another]), [""; 0]);
        let long = format!("//! It.\n{short}");
        let found = said(&[("a/src/1.rs", &long)]);
        assert!(found[0].contains("4 lines, more than 3"), "{found:?}");
        let found = said(&[("a/src/1.rs", short), ("a/src/2.rs", short)]);
        assert!(found[0].contains("in 2 files"), "{found:?}");
        let found = said(&[of_another]);
        assert!(found[0].contains("in 0 files"), "{found:?}");
    }
}
