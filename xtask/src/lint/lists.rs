//! Lists in documents are complete: routes and error codes of the control API, files of the kernel programs.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use super::{finding::Finding, sources::Sources};

const ROUTES: &str = "lb-userspace/crates/agent/src/server/routes.rs";
const OPENAPI: &str = "lb-userspace/crates/api/src/openapi.json";
const API: &str = "docs/user/api.md";
const PROGRAMS: &str = "lb-ebpf/src/";
const ARCHITECTURE: &str = "docs/develop/architecture.md";

/// What is not listed, and what is listed but not there.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let routes = routes(sources.text(ROUTES));
    let programs = programs(sources);
    let lists = [
        (API, table(sources.text(API)), &routes, ROUTES),
        (OPENAPI, operations(sources.text(OPENAPI)), &routes, ROUTES),
        (
            ARCHITECTURE,
            files(sources.text(ARCHITECTURE)),
            &programs,
            PROGRAMS,
        ),
    ];
    let mut findings = Vec::new();
    for (document, listed, there, source) in lists {
        let mut say =
            |name, what| findings.push(Finding::whole(document, format!("{name} {what} {source}")));
        there
            .difference(&listed)
            .for_each(|name| say(name, "is not listed, but is in"));
        listed
            .difference(there)
            .for_each(|name| say(name, "is listed, but is not in"));
    }
    findings.extend(codes_without_exit(sources));
    findings
}

/// Codes of errors that the part on errors does not name with their exit code.
fn codes_without_exit(sources: &Sources) -> Vec<Finding> {
    let (_, rest) = sources
        .text(API)
        .split_once("\n## Errors\n")
        .unwrap_or_default();
    let part = rest.split("\n## ").next().unwrap_or_default();
    let listed: BTreeSet<&str> = part.split('`').skip(1).step_by(2).collect();
    let mut findings = Vec::new();
    for (file, text) in sources
        .rust()
        .filter(|(file, _)| !file.name.starts_with("xtask/"))
    {
        let missing = codes(text).filter(|code| !listed.contains(code));
        findings.extend(missing.map(|code| {
            Finding::whole(
                API,
                format!("code {code} is not listed, but is in {}", file.name),
            )
        }));
    }
    findings
}

/// What `fn code(&self)` answers in a file.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    let functions = text.split("fn code(&self) -> &'static str {").skip(1);
    let bodies = functions.filter_map(|rest| rest.split("\n    }").next());
    bodies.flat_map(|body| body.split('"').skip(1).step_by(2))
}

/// `GET /v1/status` and so on, of `.route("/v1/status", get(…))`.
fn routes(code: &str) -> BTreeSet<String> {
    let code: String = code.split_whitespace().collect();
    let routes = code.split(".route(\"").skip(1);
    let routes = routes.filter_map(|route| {
        let (path, rest) = route.split_once("\",")?;
        let (method, _) = rest.split_once('(')?;
        Some(format!("{} {path}", method.to_uppercase()))
    });
    routes.collect()
}

/// The same, of the table's first column.
fn table(document: &str) -> BTreeSet<String> {
    let rows = document.lines().filter_map(|line| {
        let (request, _) = line.strip_prefix("| `")?.split_once('`')?;
        let is_request = request.contains(" /v1/");
        is_request.then(|| request.split('?').next().unwrap_or_default().to_owned())
    });
    rows.collect()
}

/// The same, of `openapi.json`.
fn operations(document: &str) -> BTreeSet<String> {
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let paths = document.get("paths").and_then(Value::as_object);
    let operations = paths.into_iter().flatten().flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flat_map(serde_json::Map::keys);
        let methods = methods.filter(|key| ["get", "post"].contains(&key.as_str()));
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    operations.collect()
}

/// Every file but the one that names the others.
fn programs(sources: &Sources) -> BTreeSet<String> {
    let names = sources.files.iter();
    let names = names.filter_map(|file| file.name.strip_prefix(PROGRAMS));
    let names = names.filter(|name| *name != "main.rs");
    names.map(str::to_owned).collect()
}

/// What the part on `lb-ebpf` names.
fn files(document: &str) -> BTreeSet<String> {
    let (_, rest) = document.split_once("\n### `lb-ebpf`\n").unwrap_or_default();
    let part = rest.split("\n### ").next().unwrap_or_default();
    let code = part.split('`').skip(1).step_by(2);
    code.filter(|code| Path::new(code).extension().is_some_and(|kind| kind == "rs"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "Router::new()\n    .route(\"/v1/status\", get(status))\n    .route(\n        \
                        \"/v1/history/{id}\",\n        post(show),\n    )";
    const TABLE: &str = "| request | body |\n| --- | --- |\n| `GET /v1/status?a={a}` | |\n\
                         | `POST /v1/history/{id}` | see `GET /v1/other` |\n";
    const PATHS: &str =
        r#"{"paths":{"/v1/status":{"get":{}},"/v1/history/{id}":{"post":{},"parameters":[]}}}"#;
    const MAP: &str =
        "## Code map\n\n### `lb-ebpf`\n\n`steer.rs`, the program\n\n### `other`\n\n`cli.rs`";

    fn findings(code: &str, table: &str, paths: &str, map: &str) -> Vec<String> {
        let sources = Sources::of(&[
            (ROUTES, code),
            (API, table),
            (OPENAPI, paths),
            (ARCHITECTURE, map),
            ("lb-ebpf/src/main.rs", ""),
            ("lb-ebpf/src/steer.rs", ""),
        ]);
        check(&sources).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lists_that_are_complete() {
        assert_eq!(findings(CODE, TABLE, PATHS, MAP), [""; 0]);
    }

    #[test]
    fn a_route_that_is_not_listed_is_a_finding_for_each_list() {
        let code = CODE.replace("(status))", "(status)).route(\"/v1/down\", post(down))");
        let name = format!("POST /v1/down is not listed, but is in {ROUTES}");
        let expected = [API, OPENAPI].map(|document| format!("{document}: {name}"));
        assert_eq!(findings(&code, TABLE, PATHS, MAP), expected);
    }

    #[test]
    fn a_code_without_its_exit_code_is_a_finding() {
        let code = "impl E {\n    pub fn code(&self) -> &'static str {\n        match self {\n            \
                    Self::A => \"busy\",\n            Self::B => \"gone\",\n        }\n    }\n    \
                    fn f() { g(\"no code\"); }\n}\n";
        let page = "# API\n\n## Errors\n\n- exit code 6: `busy`.\n\n## Status\n\n`gone`\n";
        let sources = Sources::of(&[("a/error.rs", code), (API, page)]);
        let found: Vec<_> = codes_without_exit(&sources)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [format!(
                "{API}: code gone is not listed, but is in a/error.rs"
            )]
        );
    }

    #[test]
    fn a_route_that_is_gone_is_a_finding() {
        let code = CODE.replace("post(show)", "get(show)");
        assert_eq!(findings(&code, TABLE, PATHS, MAP).len(), 4);
        assert_eq!(findings(CODE, TABLE, "no JSON", MAP).len(), 2);
    }

    #[test]
    fn programs_are_listed_and_there() {
        let map = MAP.replace("steer.rs", "stear.rs");
        let found = findings(CODE, TABLE, PATHS, &map);
        assert_eq!(found.len(), 2);
        assert!(
            found[0].contains("steer.rs is not listed") && found[1].contains("stear.rs is listed")
        );
    }
}
