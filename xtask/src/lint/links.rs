//! Links between the documents lead somewhere: the file is there, and the heading too. So do the documents that code,
//! configuration and units name.

use std::{collections::BTreeSet, ffi::OsStr, path::Path};

use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use super::{finding::Finding, sources::Sources};

/// Every relative link in a Markdown file that leads nowhere.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in sources.with_extension("md") {
        for (line, target) in links(text) {
            if let Some(problem) = problem(sources, &file.name, &target) {
                findings.push(Finding::at(
                    &file.name,
                    line,
                    format!("link to {target}: {problem}"),
                ));
            }
        }
    }
    let naming = sources
        .files
        .iter()
        .filter(|file| names_documents(&file.name));
    for (file, text) in naming.filter_map(|file| Some((file, file.text()?))) {
        for (index, line) in text.lines().enumerate() {
            let named = named(line).filter_map(|name| Some((name, problem(sources, "", name)?)));
            findings.extend(named.map(|(name, problem)| {
                Finding::at(&file.name, index + 1, format!("names {name}: {problem}"))
            }));
        }
    }
    findings
}

/// Files that are no documents. The rules' own tests name documents that are not there.
fn names_documents(file: &str) -> bool {
    let kinds = ["rs", "toml", "yml", "service", "sh", "json"];
    let kind = Path::new(file).extension().and_then(OsStr::to_str);
    kind.is_some_and(|kind| kinds.contains(&kind)) && !file.starts_with("xtask/src/lint/")
}

/// `docs/….md`, with the heading if one is named.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let starts = line.match_indices("docs/").filter(|(at, _)| {
        let before = line.get(..*at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "/-_.".contains(c))
    });
    starts.filter_map(|(at, _)| {
        let rest = line.get(at..)?;
        let is_of_path = |c: char| c.is_alphanumeric() || "/-_.#@".contains(c);
        let end = rest.find(|c| !is_of_path(c)).unwrap_or(rest.len());
        let name = rest.get(..end)?.trim_end_matches(['.', '/', '#']);
        let file = name.split('#').next().unwrap_or_default();
        Path::new(file)
            .extension()
            .is_some_and(|kind| kind == "md")
            .then_some(name)
    })
}

/// The links and images of a document, each with its line.
pub(super) fn links(text: &str) -> Vec<(usize, String)> {
    let events = Parser::new(text).into_offset_iter();
    let links = events.filter_map(|(event, range)| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            let before = text.get(..range.start).unwrap_or_default();
            Some((before.matches('\n').count() + 1, dest_url.into_string()))
        }
        _ => None,
    });
    links
        .filter(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

fn problem(sources: &Sources, from: &str, target: &str) -> Option<&'static str> {
    let (path, heading) = target
        .split_once('#')
        .map_or((target, None), |(p, h)| (p, Some(h)));
    let Some(name) = resolve(from, path) else {
        return Some("outside the project");
    };
    let file = sources.files.iter().find(|file| file.name == name);
    let directory = format!("{name}/");
    match (file, heading) {
        (None, _)
            if !sources
                .files
                .iter()
                .any(|file| file.name.starts_with(&directory)) =>
        {
            Some("no such file")
        }
        (Some(file), Some(heading)) if name.to_lowercase().ends_with(".md") => {
            let there = anchors(file.text().unwrap_or_default()).contains(heading);
            (!there).then_some("no such heading")
        }
        _ => None,
    }
}

/// `path` as seen from the document `from`, below the top directory.
fn resolve(from: &str, path: &str) -> Option<String> {
    if path.is_empty() {
        return Some(from.to_owned());
    }
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// What a link can name in a document: its headings, written the way GitHub writes them.
pub(super) fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut heading: Option<String> = None;
    for event in Parser::new(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                anchors.extend(heading.take().map(|text| slug(&text)));
            }
            Event::Text(part) | Event::Code(part) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&part);
                }
            }
            _ => {}
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(readme: &str) -> Vec<String> {
        let guide = "# The guide\n\n## What `drain` does, exactly\n";
        let sources = Sources::of(&[("README.md", readme), ("docs/guide.md", guide)]);
        check(&sources).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere() {
        let text = "# Top\n[a](docs/guide.md) [b](docs/guide.md#what-drain-does-exactly) [c](docs/) \
                    [d](#top) [e](https://example.org/x.md) `[f](nowhere.md)`";
        assert_eq!(findings(text), [""; 0]);
    }

    #[test]
    fn documents_that_code_names_are_there() {
        let code = "//! See `docs/guide.md`.\nfn f() { g(\"docs/old.md names it: docs/guide.md#why\"); }\n\
                    // ../docs/no.md, docs/pictures/a.svg\n";
        let guide = "# The guide\n";
        let sources = Sources::of(&[("src/a.rs", code), ("docs/guide.md", guide)]);
        let findings: Vec<_> = check(&sources).iter().map(ToString::to_string).collect();
        let expected = [
            "src/a.rs:2: names docs/old.md: no such file",
            "src/a.rs:2: names docs/guide.md#why: no such heading",
        ];
        assert_eq!(findings, expected);
    }

    #[test]
    fn links_that_lead_nowhere() {
        let findings = findings("\n[a](guide.md)\n[b](docs/guide.md#why)\n[c](../x.md)");
        let endings = ["no such file", "no such heading", "outside the project"];
        assert_eq!(findings.len(), endings.len());
        for (finding, ending) in findings.iter().zip(endings) {
            assert!(finding.ends_with(ending), "{finding}");
        }
        assert!(findings[0].starts_with("README.md:2:"));
    }
}
