//! Words that were retired: each thing has one name, that of `docs/user/glossary.md`, in what users read, in JSON
//! and metrics, and in identifiers.
//!
//! Decisions keep the words of their day, and the changelog says what was renamed. `lb-common` and `lb-ebpf` are left
//! out: the object that is checked in is built from them, with their names in its type information.

use proc_macro2::{TokenStream, TokenTree};

use super::{
    finding::Finding,
    phrases::{read_by_users, times},
    sources::Sources,
};

const DECISIONS: &str = "docs/develop/decisions/";
/// What is built into the object.
const OBJECT: [&str; 2] = ["lb-common/", "lb-ebpf/"];
/// Names that users see, beside those in documents and strings: alerts, dashboard, settings, the API.
const WIRE: [&str; 3] = ["json", "yml", "toml"];

/// As often as it may be.
const ANY: usize = usize::MAX;

/// A word, and where it is left.
struct Retired {
    word: &'static str,
    instead: &'static str,
    /// In what users read, at most: names that are stored or that former agents and keepers use.
    texts: usize,
    /// In identifiers, at most: names of `lb-common`.
    identifiers: usize,
}

const fn retired(
    word: &'static str,
    instead: &'static str,
    texts: usize,
    identifiers: usize,
) -> Retired {
    Retired {
        word,
        instead,
        texts,
        identifiers,
    }
}

const RETIRED: [Retired; 13] = [
    // A candidate is what is being tried. Left: the journal's name of the word's field (three times), how the status
    // of a former agent is read, and the check of a candidate.
    retired("\"candidate\"", "fallback", 5, 0),
    // The word's field in lb-common (eight times), and a probe's candidate.
    retired(".candidate", "fallback", 0, 11),
    retired("stand in", "fallback", 0, 0),
    retired("stand-in", "fallback", 0, 0),
    // The name in messages to keepers.
    retired("twin", "group key", 1, 0),
    retired("twins", "group keys", 0, 0),
    // The metric has both names for one release.
    retired("usurped", "foreign program", 2, 0),
    retired("usurper", "foreign program", 0, 0),
    // The former names of HOTLB_FAULTS, which work for one release, and former headings that lead on. Inside, a drill
    // is an injected fault: `Fault` is what a journal suffers by itself.
    retired("drill", "fault", 16, ANY),
    retired("drills", "faults", 2, ANY),
    retired("books", "registry", 0, 0),
    retired("custody", "quiesce", 0, 0),
    // How the status of a former agent is read.
    retired("told_ms_ago", "signalled_ms_ago", 1, 0),
];

/// Retired words that are there more often than they may be, with each place.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    over(sources, &RETIRED)
}

fn over(sources: &Sources, words: &[Retired]) -> Vec<Finding> {
    let texts = texts(sources);
    let identifiers = identifiers(sources);
    let mut findings = Vec::new();
    for retired in words {
        let kinds = [
            ("texts", &texts, retired.texts),
            ("identifiers", &identifiers, retired.identifiers),
        ];
        for (kind, pieces, most) in kinds {
            // Identifiers are searched in words.
            let word = match kind {
                "identifiers" => retired.word.replace('_', " "),
                _ => retired.word.to_owned(),
            };
            let places = pieces.iter().flat_map(|(file, line, text)| {
                std::iter::repeat_n((file.as_str(), *line), times(text, &word))
            });
            let places: Vec<(&str, usize)> = places.collect();
            if places.len() > most {
                let words = format!(
                    "{} is retired ({} in {kind}, {most} allowed): the glossary's word is \"{}\"",
                    retired.word,
                    places.len(),
                    retired.instead
                );
                findings.extend(
                    places
                        .iter()
                        .map(|&(file, line)| Finding::at(file, line, words.clone())),
                );
            }
        }
    }
    findings
}

/// File, line and text of each piece that users read or that programs of theirs parse.
fn texts(sources: &Sources) -> Vec<(String, usize, String)> {
    let mut texts = read_by_users(sources);
    texts.retain(|(file, _, _)| !file.starts_with(DECISIONS));
    for extension in WIRE {
        for (file, text) in sources.with_extension(extension) {
            if file.name.starts_with("docs/") || file.name.starts_with("lb-userspace/") {
                let lines = text.lines().zip(1..);
                texts.extend(lines.map(|(text, line)| (file.name.clone(), line, text.to_owned())));
            }
        }
    }
    texts
}

/// File and line of each identifier, in words (`SeatRow`: "seat row"), a field with its dot.
fn identifiers(sources: &Sources) -> Vec<(String, usize, String)> {
    let mut found = Vec::new();
    for (file, text) in sources.rust() {
        let is_built_in = OBJECT.iter().any(|object| file.name.starts_with(object));
        if !is_built_in && let Ok(tokens) = text.parse::<TokenStream>() {
            walk(tokens, &mut |line, text| {
                found.push((file.name.clone(), line, text));
            });
        }
    }
    found
}

fn walk(tokens: TokenStream, found: &mut impl FnMut(usize, String)) {
    let mut is_field = false;
    for token in tokens {
        match &token {
            TokenTree::Group(group) => walk(group.stream(), found),
            TokenTree::Ident(ident) => {
                let dot = if is_field { "." } else { "" };
                let words = in_words(&ident.to_string());
                found(ident.span().start().line, format!("{dot}{words}"));
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        is_field = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '.');
    }
}

/// `thaw_stand_in`, `SeatRow`: "thaw stand in", "seat row".
fn in_words(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() && !words.ends_with(char::is_uppercase) {
            words.push(' ');
        }
        words.push(if c == '_' { ' ' } else { c });
    }
    words.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retired_words_are_found_in_texts_names_and_identifiers() {
        let sources = Sources::of(&[
            ("docs/one.md", "A twin.\n\nTwinned.\n"),
            ("docs/develop/decisions/0001-one.md", "A twin.\n"),
            (
                "docs/prometheus/alerts.yml",
                "expr: hotlb_groups_usurped > 0\n",
            ),
            (
                "lb-userspace/crates/api/src/openapi.json",
                "{\n\"candidate\": 1 }\n",
            ),
            (
                "lb-userspace/src/one.rs",
                "/// A twin.\nfn thaw_stand_in(word: Word) -> Twin { word.candidate.twin() }\n",
            ),
            ("lb-common/src/word.rs", "fn twin() {}\n"),
        ]);
        let words = ["twin", "stand in", "\"candidate\"", ".candidate", "usurped"];
        let words = words.map(|word| retired(word, "another", 0, 0));
        let found: Vec<String> = over(&sources, &words)
            .iter()
            .map(ToString::to_string)
            .collect();
        let places = [
            ("docs/one.md:1", "twin"),
            ("docs/prometheus/alerts.yml:1", "usurped"),
            (
                "lb-userspace/crates/api/src/openapi.json:2",
                "\"candidate\"",
            ),
            ("lb-userspace/src/one.rs:2", ".candidate"),
            ("lb-userspace/src/one.rs:2", "stand in"),
            ("lb-userspace/src/one.rs:2", "twin"),
            ("lb-userspace/src/one.rs:2", "twin"),
        ];
        for (place, word) in places {
            let is_it = |finding: &&String| {
                finding.starts_with(place) && finding.contains(&format!("{word} is retired"))
            };
            assert!(
                found.iter().any(|finding| is_it(&finding)),
                "{place}: {found:#?}"
            );
        }
        assert_eq!(found.len(), places.len(), "{found:#?}");
    }

    #[test]
    fn what_is_allowed_is_no_finding() {
        let sources = Sources::of(&[
            ("docs/one.md", "A twin.\n"),
            ("tests/src/one.rs", "fn twin() {}\n"),
        ]);
        let found = |texts, identifiers| {
            over(
                &sources,
                &[retired("twin", "group key", texts, identifiers)],
            )
            .len()
        };
        assert_eq!(
            [found(1, 1), found(1, 0), found(0, 1), found(0, 0)],
            [0, 1, 1, 2]
        );
    }

    #[test]
    fn words_of_an_identifier() {
        assert_eq!(in_words("thaw_stand_in"), "thaw stand in");
        assert_eq!(in_words("SeatRow"), "seat row");
        assert_eq!(in_words("ROWS"), "rows");
        assert_eq!(in_words("twin"), "twin");
    }
}
