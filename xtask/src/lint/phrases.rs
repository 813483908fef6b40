//! Turns of phrase that were retired: what users read says subject, verb and object, in the words that an
//! operator searches for.
//!
//! What users read is the README, the documents, and the strings of hotlb itself: errors, warnings, log lines and
//! the help of the command line.

use proc_macro2::{TokenStream, TokenTree};

use super::{finding::Finding, sources::Sources};

const CODE: [&str; 2] = ["lb-userspace/src/", "lb-userspace/crates/"];
/// There comments are help texts.
const HELP: &str = "lb-userspace/crates/cli/src/";
const DOCUMENTS: &str = "docs/";

/// A turn of phrase, and how often it is left.
struct Retired {
    phrase: &'static str,
    /// In f4d529e, counted in the same way.
    before: usize,
    /// Now, at most. Where it is not 0 it is a name that persists: of tests, of an exit, of a user; or a decision.
    most: usize,
}

const fn retired(phrase: &'static str, before: usize, most: usize) -> Retired {
    Retired {
        phrase,
        before,
        most,
    }
}

const RETIRED: [Retired; 18] = [
    retired("goes on", 62, 0),
    retired("go on with", 1, 0),
    retired("so many", 4, 0),
    retired("so long", 1, 0),
    retired("somebody", 23, 0),
    retired("nobody", 113, 11),
    retired("likewise", 19, 0),
    retired("whoever", 20, 0),
    retired("of whom", 1, 0),
    retired("is said", 4, 0),
    retired("is told", 15, 0),
    retired("is looked at", 4, 0),
    retired("stays as", 5, 0),
    retired("stands in", 10, 0),
    retired("lies in", 1, 0),
    retired("called off", 4, 0),
    retired("is not known", 9, 1),
    retired("take nothing up", 3, 0),
];

/// Phrases that are there more often than they may be, with each place.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let texts = read_by_users(sources);
    let over = RETIRED.iter().flat_map(|retired| {
        let places = texts.iter().flat_map(|(file, line, text)| {
            let times = times(text, retired.phrase);
            std::iter::repeat_n((file.as_str(), *line), times)
        });
        let places: Vec<(&str, usize)> = places.collect();
        let is_over = places.len() > retired.most;
        let words = format!(
            "\"{}\" is retired ({} in f4d529e, {} left, {} allowed): say who does what",
            retired.phrase,
            retired.before,
            places.len(),
            retired.most
        );
        let findings = places
            .into_iter()
            .map(move |(file, line)| Finding::at(file, line, words.clone()));
        findings.filter(move |_| is_over).collect::<Vec<_>>()
    });
    over.collect()
}

/// File, line and text of each piece.
pub(super) fn read_by_users(sources: &Sources) -> Vec<(String, usize, String)> {
    let mut texts = Vec::new();
    for (file, text) in sources.with_extension("md") {
        if file.name == "README.md" || file.name.starts_with(DOCUMENTS) {
            // A paragraph may break a phrase.
            let mut line = 1;
            for paragraph in text.split("\n\n") {
                texts.push((file.name.clone(), line, paragraph.to_owned()));
                line += paragraph.matches('\n').count() + 2;
            }
        }
    }
    for (file, text) in sources.rust() {
        if CODE.iter().any(|start| file.name.starts_with(start))
            && let Ok(tokens) = text.parse::<TokenStream>()
        {
            let helps = file.name.starts_with(HELP);
            strings(tokens, helps, &mut |line, text| {
                texts.push((file.name.clone(), line, text));
            });
        }
    }
    texts
}

/// The string literals outside tests; those of comments too where these are help texts.
pub(super) fn strings(tokens: TokenStream, helps: bool, found: &mut impl FnMut(usize, String)) {
    let mut words: [String; 2] = Default::default();
    for token in tokens {
        let word = token.to_string();
        match token {
            TokenTree::Group(group) if words != ["mod", "tests"] => {
                strings(group.stream(), helps, found);
            }
            TokenTree::Literal(literal) if word.starts_with('"') || word.starts_with("r\"") => {
                let is_comment = words == ["doc", "="];
                if helps || !is_comment {
                    // As it is written: a line that is continued ends in a backslash.
                    found(literal.span().start().line, word.replace("\\\n", " "));
                }
            }
            _ => {}
        }
        words.rotate_left(1);
        let [_, last] = &mut words;
        *last = if word.len() < 8 { word } else { String::new() };
    }
}

/// How often the phrase is in the text as whole words, however it is broken.
pub(super) fn times(text: &str, phrase: &str) -> usize {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ").to_lowercase();
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let whole = text.match_indices(phrase).filter(|(at, _)| {
        let before = text.get(..*at).and_then(|text| text.chars().next_back());
        let after = text
            .get(at + phrase.len()..)
            .and_then(|text| text.chars().next());
        !is_word(before) && !is_word(after)
    });
    whole.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_read_is_searched_and_nothing_else() {
        let code = "/// Nobody.\nfn f() { g(\"it\\\n   goes on\"); }\n#[cfg(test)]\nmod tests { fn t() { g(\"nobody\"); } }\n";
        let help = "/// Nobody.\nstruct Args;\n";
        let sources = Sources::of(&[
            (
                "docs/one.md",
                "It goes\non. Somebody's.\n\nA heron goes online.\n",
            ),
            ("lb-userspace/crates/core/src/one.rs", code),
            ("lb-userspace/crates/cli/src/args.rs", help),
            ("tests/tests/it/one.rs", code),
        ]);
        let texts = read_by_users(&sources);
        let count =
            |phrase| -> usize { texts.iter().map(|(_, _, text)| times(text, phrase)).sum() };
        assert_eq!(count("goes on"), 2, "{texts:?}");
        assert_eq!(count("nobody"), 1, "{texts:?}");
        assert_eq!(count("somebody"), 1, "{texts:?}");
    }
}
