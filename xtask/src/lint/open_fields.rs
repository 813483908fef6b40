//! What a lock protects is changed by its own methods: its fields are private.

use super::{finding::Finding, sources::Sources};

/// Files whose structs stand behind a lock, and how many fields of theirs are open to others. A number above 0 is to come
/// down.
const STATE: [(&str, usize); 8] = [
    (
        "lb-userspace/crates/agent/src/agent/service/registry/command.rs",
        0,
    ),
    (
        "lb-userspace/crates/agent/src/agent/service/registry/counts.rs",
        0,
    ),
    (
        "lb-userspace/crates/agent/src/agent/service/registry/end.rs",
        0,
    ),
    (
        "lb-userspace/crates/agent/src/agent/service/registry/generation.rs",
        0,
    ),
    (
        "lb-userspace/crates/agent/src/agent/service/registry/mod.rs",
        0,
    ),
    (
        "lb-userspace/crates/agent/src/agent/service/registry/slots.rs",
        0,
    ),
    (
        "lb-userspace/crates/agent/src/agent/service/registry/sums.rs",
        0,
    ),
    (
        "lb-userspace/crates/agent/src/agent/service/drain/progress.rs",
        0,
    ),
];

/// Files with more open fields than that, or fewer: then the number comes down.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    findings(sources, &STATE)
}

fn findings(sources: &Sources, state: &[(&'static str, usize)]) -> Vec<Finding> {
    let wrong = state.iter().filter_map(|&(name, most)| {
        let open = sources.text(name).lines().filter(|line| is_open(line));
        let open = open.count();
        let words = format!(
            "{open} open fields, where {most} are known: change them by methods of their struct"
        );
        (open != most).then(|| Finding::whole(name, words))
    });
    wrong.collect()
}

/// Whether the line is a field that other files may change.
fn is_open(line: &str) -> bool {
    let field = line.trim_start();
    let Some(field) = field.strip_prefix("pub") else {
        return false;
    };
    let field = match field.strip_prefix('(') {
        Some(scope) => scope.split_once(") ").map_or("", |(_, field)| field),
        None => field.trim_start(),
    };
    field.split_once(": ").is_some_and(|(name, _)| {
        name.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_opened_is_found() {
        let text = "struct A {\n    pub(super) one: u8,\n    two: u8,\n    pub(in a::b) three_4: u8,\n}\n\npub(super) fn f(x: u8) {}\n";
        let sources = Sources::of(&[("a.rs", text)]);
        assert_eq!(findings(&sources, &[("a.rs", 2)]).len(), 0);
        let found = findings(&sources, &[("a.rs", 0)]);
        assert!(found[0].to_string().contains("2 open fields"));
    }
}
