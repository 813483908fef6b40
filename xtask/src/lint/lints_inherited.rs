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
    let names = members.filter_map(Value::as_str);
    names
        .flat_map(|name| match name.strip_suffix("/*") {
            Some(parent) => children(sources, parent),
            None => vec![name.to_owned()],
        })
        .collect()
}

/// The packages in a directory.
fn children(sources: &Sources, parent: &str) -> Vec<String> {
    let manifests = sources.with_extension("toml").filter_map(|(file, _)| {
        let package = file.name.strip_suffix("/Cargo.toml")?;
        let (directory, _) = package.rsplit_once('/')?;
        (directory == parent).then(|| package.to_owned())
    });
    manifests.collect()
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
            ("Cargo.toml", "[workspace]\nmembers = ['a', 'b', 'c/*']"),
            ("a/Cargo.toml", "[lints]\nworkspace = true"),
            ("b/Cargo.toml", "[package]\nname = 'b'"),
            ("c/d/Cargo.toml", "[package]\nname = 'd'"),
            ("c/d/e/Cargo.toml", "[package]\nname = 'e'"),
        ]);
        let findings = check(&sources);
        assert_eq!(findings.len(), 2);
        assert!(findings[0].to_string().starts_with("b/Cargo.toml: "));
        assert!(findings[1].to_string().starts_with("c/d/Cargo.toml: "));
    }
}
