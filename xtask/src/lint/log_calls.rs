//! Log messages stand alone: an operator meets one line, without the code around it, and searches for its words.
//!
//! So each call has a message of its own that begins with a lower-case word (or a name), is short, and where
//! something failed says what: "failed to remove BPF pins".

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};

use super::{finding::Finding, sources::Sources};

const CODE: &str = "lb-userspace/";
const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
/// Levels at which a failure is logged.
const FAILURES: [&str; 2] = ["warn", "error"];
/// Characters of a message, at most.
const LONGEST: usize = 100;
const FAILED: &str = "failed to ";
/// A task that panicked: the error says what it was doing.
const BROKE: &str = "a bug aborted ";
/// What a failure also is called, so that nobody finds it by searching for [`FAILED`].
const OTHERWISE: [&str; 6] = [
    "cannot ",
    "could not ",
    "unable to ",
    "failure",
    " failed",
    "failed:",
];

/// A message that breaks a rule, and why it may.
struct Allowed {
    file: &'static str,
    message: &'static str,
    reason: &'static str,
}

const ALLOWED: [Allowed; 0] = [];

/// A log call.
#[derive(Debug)]
struct Call {
    line: usize,
    level: String,
    /// Its literal with one space between words; none if it has no message.
    message: Option<String>,
    /// Whether it logs an error's text.
    has_error: bool,
}

/// What is wrong with each message, and every allowance that nothing uses.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    over(sources, &ALLOWED)
}

fn over(sources: &Sources, allowed: &[Allowed]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = vec![false; allowed.len()];
    let mut places: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
    for (file, text) in sources.rust() {
        let Some(tokens) = file
            .name
            .starts_with(CODE)
            .then(|| text.parse::<TokenStream>().ok())
            .flatten()
        else {
            continue;
        };
        calls(tokens, &mut |call| {
            if let Some(message) = &call.message {
                let of_it = places.entry(message.clone()).or_default();
                of_it.push((&file.name, call.line));
            }
            let Some(wrong) = wrong(&call) else {
                return;
            };
            let may = allowed.iter().position(|allowed| {
                allowed.file == file.name && Some(allowed.message) == call.message.as_deref()
            });
            match may.and_then(|at| used.get_mut(at)) {
                Some(used) => *used = true,
                None => findings.push(Finding::at(&file.name, call.line, wrong)),
            }
        });
    }
    findings.extend(twice(&places));
    let idle = allowed.iter().zip(used).filter(|(_, used)| !used);
    findings.extend(idle.map(|(allowed, _)| {
        let words = format!(
            "the log message \"{}\" is allowed ({}) but not there: take it off the list",
            allowed.message, allowed.reason
        );
        Finding::whole(allowed.file, words)
    }));
    findings
}

/// Each place of a message that is at several.
fn twice(places: &BTreeMap<String, Vec<(&str, usize)>>) -> Vec<Finding> {
    let several = places.iter().filter(|(_, places)| places.len() > 1);
    let findings = several.flat_map(|(message, places)| {
        places.iter().map(move |(file, line)| {
            let words = format!(
                "\"{message}\" is logged at {} places: tell apart what failed",
                places.len()
            );
            Finding::at(file, *line, words)
        })
    });
    findings.collect()
}

fn wrong(call: &Call) -> Option<String> {
    let Some(message) = &call.message else {
        return Some("a log call without a message: say what happened".to_owned());
    };
    let length = message.chars().count();
    let is_failure = FAILURES.contains(&call.level.as_str());
    let wrong = if message.starts_with('{') {
        "is only a variable: begin with words that can be searched for"
    } else if !begins_lower(message) {
        "does not begin with a lower-case word or a name"
    } else if message.ends_with(['.', '!']) {
        "ends like a sentence: leave the full stop out"
    } else if length > LONGEST {
        return Some(format!(
            "\"{message}\" has {length} characters, {LONGEST} allowed: put values into fields"
        ));
    } else if is_failure
        && !message.starts_with(FAILED)
        && !message.starts_with(BROKE)
        && (call.has_error || OTHERWISE.iter().any(|words| message.contains(words)))
    {
        "is about a failure: begin with \"failed to\""
    } else {
        return None;
    };
    Some(format!("\"{message}\" {wrong}"))
}

/// A lower-case word, or a name: `HOTLB_LOG`, `eBPF`, `SIGTERM`, a version or a path.
fn begins_lower(message: &str) -> bool {
    let word = message.split(' ').next().unwrap_or_default();
    let capitals = word.chars().filter(|c| c.is_uppercase()).count();
    word.starts_with(|c: char| c.is_lowercase() || c == '`') || capitals > 1
}

/// The log calls outside tests.
fn calls(tokens: TokenStream, found: &mut impl FnMut(Call)) {
    let mut words: [String; 2] = Default::default();
    for token in tokens {
        let word = token.to_string();
        if let TokenTree::Group(group) = &token
            && words != ["mod", "tests"]
        {
            match &words {
                [level, bang] if bang == "!" && LEVELS.contains(&level.as_str()) => {
                    let line = group.span_open().start().line;
                    found(call(line, level, group.stream()));
                }
                _ => {}
            }
            calls(group.stream(), found);
        }
        words.rotate_left(1);
        let [_, last] = &mut words;
        *last = if word.len() < 8 { word } else { String::new() };
    }
}

fn call(line: usize, level: &str, arguments: TokenStream) -> Call {
    let mut argument: Vec<TokenTree> = Vec::new();
    let mut message = None;
    let mut has_error = false;
    for token in arguments.into_iter().map(Some).chain([None]) {
        match token {
            Some(token) if !matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ',') => {
                argument.push(token);
            }
            _ => {
                // What follows the message are its values.
                if message.is_none() {
                    message = literal(&argument);
                    has_error |= is_error(&argument);
                }
                argument.clear();
            }
        }
    }
    Call {
        line,
        level: level.to_owned(),
        message,
        has_error,
    }
}

/// The words of an argument that is a string.
fn literal(argument: &[TokenTree]) -> Option<String> {
    let [TokenTree::Literal(literal)] = argument else {
        return None;
    };
    let text = literal.to_string();
    let text = text.strip_prefix('"')?.strip_suffix('"')?;
    // A line that is continued ends in a backslash.
    let text = text.replace("\\\n", " ").replace("\\\"", "\"");
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Whether a field is an error: `%error`, `error`, `error = …`.
fn is_error(argument: &[TokenTree]) -> bool {
    let name = argument.iter().find_map(|token| match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    });
    name.is_some_and(|name| name == "error" || name == "source")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "lb-userspace/crates/agent/src/one.rs";

    fn found(code: &str, allowed: &[Allowed]) -> Vec<String> {
        let code = format!("fn f() {{\n{code}\n}}\n");
        let sources = Sources::of(&[(FILE, &code)]);
        let findings = over(&sources, allowed);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn messages_that_stand_alone() {
        for code in [
            "tracing::warn!(%error, pin = %pin.display(), \"failed to remove a BPF pin\");",
            "log::info!(\"HOTLB_LOG is invalid: {wrong}; level is {}\", level);",
            "x.inspect_err(|error| warn!(error, \"failed to \\\n    open\"));",
            "tracing::debug!(%error, \"loader not asked\"); tracing::info!(parent: None, n = 1, \"ready\")",
            "other!(\"No message.\"); error(\"No.\");",
        ] {
            assert_eq!(found(code, &[]), [""; 0], "{code}");
        }
        let tests = format!("#[cfg(test)]\nmod tests {{ {} }}", "warn!(\"Bad.\");");
        assert_eq!(found(&tests, &[]), [""; 0]);
    }

    #[test]
    fn each_fault_is_found_once() {
        for (code, expected) in [
            ("tracing::info!(n = 1);", "without a message"),
            ("tracing::info!(text);", "without a message"),
            ("tracing::warn!(\"{text}\");", "only a variable"),
            ("warn!(\"{}\", done.message);", "only a variable"),
            (
                "log::info!(\"The agent is ready\");",
                "does not begin with a lower-case word",
            ),
            ("tracing::info!(\"agent is ready.\");", "like a sentence"),
            (
                "tracing::warn!(%error, \"its pins stay\");",
                "begin with \"failed to\"",
            ),
            (
                "match x { _ => { error!(\"the journal cannot be read\") } }",
                "begin with \"failed to\"",
            ),
            (
                "info!(\"words words words words words words words words words words words words words words words \
                 words words words\");",
                "107 characters, 100 allowed",
            ),
        ] {
            let found = found(code, &[]);
            assert_eq!(found.len(), 1, "{code}: {found:?}");
            assert!(found[0].starts_with(&format!("{FILE}:2: ")), "{found:?}");
            assert!(found[0].contains(expected), "{found:?}");
        }
    }

    #[test]
    fn a_message_at_two_places_is_found_at_both() {
        let code = "info!(\"agent is ready\");\ndebug!(\"agent is ready\");";
        let found = found(code, &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains(":2: ") && found[1].contains(":3: "),
            "{found:?}"
        );
    }

    #[test]
    fn an_allowance_is_used_or_found() {
        let allowed = [Allowed {
            file: FILE,
            message: "{text}",
            reason: "it begins with words",
        }];
        assert_eq!(found("info!(\"{text}\");", &allowed), [""; 0]);
        let idle = found("info!(\"ready\");", &allowed);
        assert!(idle[0].contains("take it off the list"), "{idle:?}");
    }
}
