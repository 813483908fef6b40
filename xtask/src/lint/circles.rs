//! The parts of a crate (the modules at its root, each with what is below it) stand on each other in one direction: a
//! circle of them can only be read, moved and compiled as one.

use std::collections::{BTreeMap, BTreeSet};

use super::{finding::Finding, paths, sources::Sources};

/// Where parts are looked at: a crate for each folder that has a `src`.
const CODE: &str = "lb-userspace/";

/// Which parts of a crate a part names, with a file that does.
type Named<'a> = BTreeMap<String, BTreeMap<String, &'a str>>;

/// A finding for each crate with a circle.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Named<'_>> = BTreeMap::new();
    for (file, text) in sources.rust() {
        let Some((root, below)) = file.name.split_once("/src/") else {
            continue;
        };
        if !root.starts_with(CODE) || below.contains("/tests") {
            continue;
        }
        let part = below.split(['/', '.']).next().unwrap_or_default();
        // What cannot be read is a finding of "imports".
        let paths = paths::in_file(text).unwrap_or_default();
        let named = crates.entry(root).or_default();
        let named = named.entry(part.to_owned()).or_default();
        for path in paths.into_iter().filter(|path| !path.in_test) {
            let mut segments = path.segments.into_iter();
            if segments.next().is_some_and(|first| first == "crate")
                && let Some(other) = segments.next()
                && other != part
            {
                named.entry(other).or_insert(&file.name);
            }
        }
    }
    crates.values().filter_map(circle).collect()
}

/// Takes away whatever names nothing that is left; what stays is a circle, or names one.
fn circle(named: &Named<'_>) -> Option<Finding> {
    let mut left: BTreeSet<&str> = named.keys().map(String::as_str).collect();
    // The root composes all of them.
    left.retain(|part| !matches!(*part, "lib" | "main"));
    loop {
        let before = left.len();
        let stands = |part: &str| {
            let others = named.get(part).into_iter().flat_map(BTreeMap::keys);
            others
                .into_iter()
                .any(|other| left.contains(other.as_str()))
        };
        let kept: BTreeSet<&str> = left.iter().copied().filter(|part| stands(part)).collect();
        let is_done = kept.len() == before;
        left = kept;
        if is_done {
            break;
        }
    }
    let first = left.first()?;
    let arrows: Vec<String> = left
        .iter()
        .flat_map(|part| {
            let others = named.get(*part).into_iter().flatten();
            let others = others.filter(|(other, _)| left.contains(other.as_str()));
            others.map(move |(other, file)| format!("{part} names {other} in {file}"))
        })
        .collect();
    let file = named.get(*first)?.values().next()?;
    let words = format!(
        "parts of a crate stand on each other in a circle: {}",
        arrows.join("; ")
    );
    Some(Finding::whole(file, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "lb-userspace/crates/x/src/one/mod.rs";
    const TWO: &str = "lb-userspace/crates/x/src/two.rs";

    fn findings(one: &str, two: &str) -> Vec<Finding> {
        check(&Sources::of(&[(ONE, one), (TWO, two)]))
    }

    #[test]
    fn a_circle_is_found_with_its_arrows() {
        let found = findings("use crate::two::B;\n", "use crate::{one::A, three};\n");
        let text = found.first().map(ToString::to_string).unwrap_or_default();
        assert!(
            text.contains("one names two") && text.contains("two names one"),
            "{text}"
        );
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn one_direction_is_fine() {
        assert_eq!(
            findings("use crate::two::B;\n", "use crate::two::C;\n").len(),
            0
        );
        let tested = "#[cfg(test)]\nmod tests {\n    use crate::one::A;\n}\n";
        assert_eq!(findings("use crate::two::B;\n", tested).len(), 0);
    }
}
