//! A type's own methods stand in few files: what is spread over more has too much to do.

use std::collections::{BTreeMap, BTreeSet};

use super::{finding::Finding, sources::Sources};

/// Files that a type may have `impl` blocks in, but for traits.
const MOST: usize = 3;
/// Types that are spread further, and over how many files at most. Each is to become less.
const ALLOWED: [(&str, usize); 0] = [];

/// Types that are spread over too many files, and those that are allowed more than they need.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    findings(sources, &ALLOWED)
}

fn findings(sources: &Sources, allowed: &[(&str, usize)]) -> Vec<Finding> {
    let mut files: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for (file, text) in sources.rust() {
        let of = file.name.split("/src/").next().unwrap_or_default();
        for name in text.lines().filter_map(own) {
            files.entry((of, name)).or_default().insert(&file.name);
        }
    }
    let mut findings = Vec::new();
    for ((_, name), files) in &files {
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
        let spread = files.iter().filter(|((_, of), _)| of == name);
        let spread = spread.map(|(_, files)| files.len()).max();
        if spread.unwrap_or_default() < *most {
            let words = format!("{name} is allowed {most} files and needs fewer");
            findings.push(Finding::whole("xtask/src/lint/spread.rs", words));
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
            let findings = findings(&Sources::of(files), allowed);
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
}
