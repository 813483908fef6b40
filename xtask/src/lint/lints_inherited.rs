//! Every member of the workspace inherits the workspace's lints.

use toml::{Table, Value};

use super::{finding::Finding, sources::Sources};

/// Every member whose manifest lacks `[lints] workspace = true`.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in members(sources) {
        let name = format!("{member}/Cargo.toml");
        if !manifest(sources, &name).is_some_and(|manifest| inherits(&manifest)) {
            findings.push(Finding::whole(
                &name,
                "must have `[lints] workspace = true`",
            ));
        }
    }
    findings
}

fn members(sources: &Sources) -> Vec<String> {
    let root = manifest(sources, "Cargo.toml").unwrap_or_default();
    let members = root
        .get("workspace")
        .and_then(|workspace| workspace.get("members"));
    let members = members.and_then(Value::as_array).into_iter().flatten();
    members
        .filter_map(|member| Some(member.as_str()?.to_owned()))
        .collect()
}

fn inherits(manifest: &Table) -> bool {
    let workspace = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"));
    workspace.and_then(Value::as_bool) == Some(true)
}

fn manifest(sources: &Sources, name: &str) -> Option<Table> {
    let mut files = sources.with_extension("toml");
    let (_, text) = files.find(|(file, _)| file.name == name)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_without_the_lints_is_found() {
        let sources = Sources::of(&[
            ("Cargo.toml", "[workspace]\nmembers = ['a', 'b']"),
            ("a/Cargo.toml", "[lints]\nworkspace = true"),
            ("b/Cargo.toml", "[package]\nname = 'b'"),
        ]);
        let findings = check(&sources);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].to_string().starts_with("b/Cargo.toml: "));
    }
}
