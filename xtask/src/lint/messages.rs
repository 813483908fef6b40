//! Messages that documents quote are those of the code: errors, warnings and log lines, in items of lists that begin
//! with one, and in shown output, whose tables have the columns of the code.
//!
//! A quote is cut where it has a value: at `…`, and at words that are no lower-case words (`NAME`, `gen2`,
//! `0.0.0.0:8080`, `(pid`). Every run of words between two values must be in one string of the code.

use proc_macro2::TokenStream;

use super::{finding::Finding, phrases::strings, sources::Sources};

/// Documents that quote messages.
const DOCUMENTS: [&str; 3] = ["README.md", "docs/user/", "docs/operate/"];
/// Where messages come from.
const CODE: [&str; 2] = ["lb-userspace/", "lb-common/"];
/// How a line of shown output begins that is a message: an error, or a warning of `status`. What became of a
/// generation, "gen2 is …", is one too.
const SHOWN: [&str; 2] = ["hotlb: ", "! "];
/// Strings of a table's head that may be between two columns that are shown: those of columns that are not always there.
const BETWEEN: usize = 16;
/// Spans of lists that are commands or settings, not messages.
const COMMANDS: [&str; 13] = [
    "hotlb",
    "cargo",
    "sudo",
    "ip",
    "kill",
    "mount",
    "systemctl",
    "nsenter",
    "umount",
    "perf",
    "curl",
    "journalctl",
    "setcap",
];

/// Quotes whose words no string has.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let strings = strings_of(sources);
    let mut findings = Vec::new();
    for (file, text) in sources.with_extension("md") {
        if !DOCUMENTS.iter().any(|start| file.name.starts_with(start)) {
            continue;
        }
        for (line, head) in heads(text).filter(|(_, head)| !is_head(head, &strings)) {
            let words = format!("shows a table with the columns {head:?}, which no table has");
            findings.push(Finding::at(&file.name, line, words));
        }
        for (line, quote) in quotes(text) {
            let missing = runs(&quote)
                .into_iter()
                .filter(|run| !is_said(run, &strings));
            findings.extend(missing.map(|run| {
                let words = format!(
                    "quotes \"{quote}\", but no message has the words \"{run}\": quote what the code says, with \
                     values in capitals"
                );
                Finding::at(&file.name, line, words)
            }));
        }
    }
    findings
}

/// Line and text of each message that a document quotes.
fn quotes(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut is_output = false;
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        if code.starts_with("```") {
            is_output = !is_output;
        } else if is_output {
            found.extend(shown(line).map(|shown| (at + 1, shown.to_owned())));
        } else if code.starts_with("- `") {
            // A span may go on in the next line; several messages may share an item.
            let item = lines.iter().skip(at + 1);
            let item = item
                .take_while(|next| next.starts_with("  ") && !next.trim_start().starts_with("- "));
            let item = item.fold((*code).to_owned(), |item, next| {
                format!("{item} {}", next.trim())
            });
            found.extend(leading_spans(&item).map(|span| (at + 1, span.to_owned())));
        }
    }
    found.retain(|(_, quote)| is_message(quote));
    found
}

/// The message in a line of output.
fn shown(line: &str) -> Option<&str> {
    let message = SHOWN.iter().find_map(|start| line.strip_prefix(start));
    message.or_else(|| {
        let of_generation = line.trim_start();
        let mut words = of_generation.split(' ');
        let is_one = words.next()?.starts_with("gen") && words.next()? == "is";
        // What is behind a message explains it.
        is_one.then(|| of_generation.split("  ").next())?
    })
}

/// Line and columns of each table in shown output.
fn heads(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    text.lines().zip(1..).filter_map(|(line, at)| {
        let columns = line.split("  ").map(str::trim);
        let columns: Vec<&str> = columns.filter(|column| !column.is_empty()).collect();
        let is_name = |column: &&str| {
            let is_letter = |c: char| c.is_ascii_uppercase() || " %".contains(c);
            column.chars().all(is_letter)
        };
        (columns.len() > 2 && columns.iter().all(is_name)).then_some((at, columns))
    })
}

/// Whether the strings have the columns in their order.
fn is_head(columns: &[&str], strings: &[String]) -> bool {
    let starts = strings.iter().enumerate();
    let mut starts = starts.filter(|(_, string)| columns.first() == Some(&string.as_str()));
    starts.any(|(start, _)| {
        let mut rest = strings.iter().skip(start);
        let mut columns = columns.iter();
        columns.all(|column| rest.by_ref().take(BETWEEN).any(|string| string == column))
    })
}

/// The spans that an item begins with, one after the other: "`a`, `b`: what to do".
fn leading_spans(item: &str) -> impl Iterator<Item = &str> {
    let mut rest = item.trim_start_matches("- ");
    std::iter::from_fn(move || {
        let (span, after) = rest.strip_prefix('`')?.split_once('`')?;
        rest = after.trim_start_matches([',', ' ']);
        Some(span)
    })
}

/// Several words, of which the first is no command.
fn is_message(span: &str) -> bool {
    let words: Vec<&str> = span.split_whitespace().collect();
    let is_setting = span.contains(" = ") || span.starts_with(['{', '[', '"', '-', '$']);
    let is_command = words.first().is_none_or(|first| COMMANDS.contains(first));
    words.len() > 2 && !is_setting && !is_command
}

/// The runs of lower-case words between values.
fn runs(quote: &str) -> Vec<String> {
    let mut runs = vec![Vec::new()];
    for word in quote.split_whitespace() {
        let is_word = |c: char| c.is_lowercase() || ".,;:'-".contains(c);
        if word.chars().all(is_word) && word.starts_with(char::is_lowercase) {
            if let Some(run) = runs.last_mut() {
                run.push(word);
            }
        } else {
            runs.push(Vec::new());
        }
    }
    let runs = runs.iter().filter(|run| !run.is_empty());
    runs.map(|run| run.join(" ")).collect()
}

/// Whether a string has the run. A message may be put together: of several, joined by a mark, or of one that has
/// another as its value, "did not become ready: {check}".
fn is_said(run: &str, strings: &[String]) -> bool {
    let run = run.trim_matches([',', ';', ':', ' ']);
    let has = |words: &str| strings.iter().any(|string| has_words(string, words));
    has(run) || {
        let mut cuts = run.match_indices(' ').map(|(at, _)| run.split_at(at));
        cuts.any(|(left, right)| {
            let is_joint = left.ends_with([',', ';', ':'])
                && has(left.trim_end_matches([',', ';', ':']))
                || strings.iter().any(|string| leads_to_value(string, left));
            is_joint && is_said(right, strings)
        })
    }
}

/// Whether a value, or nothing, follows the words in the text.
fn leads_to_value(text: &str, words: &str) -> bool {
    // A value begins with a brace, which ends a word.
    let open = text.replace('{', "{ ");
    has_words(&open, &format!("{words} {{")) || (text.ends_with(words) && has_words(text, words))
}

/// Whether the words are in the text, not within a word.
fn has_words(text: &str, words: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(words).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text
            .get(at + words.len()..)
            .and_then(|text| text.chars().next());
        !is_word(before) && !is_word(after)
    })
}

/// The strings of the code outside tests and comments, with one space between words.
fn strings_of(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in sources.rust() {
        if CODE.iter().any(|start| file.name.starts_with(start))
            && let Ok(tokens) = text.parse::<TokenStream>()
        {
            strings(tokens, false, &mut |_line, text| {
                if text.starts_with('"') {
                    let text = text.replace("\\\"", "\"");
                    let words = text.trim_matches('"').split_whitespace();
                    found.push(words.collect::<Vec<_>>().join(" "));
                }
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "fn f() { g(\"{who} is held by {} (pid {pid}), \\\n    listening on {at}\"); }\n\
                        #[cfg(test)]\nmod tests { fn t() { g(\"only in a test\"); } }\n";

    fn found(page: &str) -> Vec<String> {
        let sources = Sources::of(&[
            ("lb-userspace/src/one.rs", CODE),
            ("docs/operate/one.md", page),
        ]);
        check(&sources).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_code_says_may_be_quoted_with_its_values() {
        for page in [
            "- `0.0.0.0:80 is held by PROGRAM (pid 7), listening on …`: stop it.\n",
            "- `… is held by …`, `… (pid N), listening\n  on …`: stop it.\n",
            "```text\n$ hotlb agent\nhotlb: 0.0.0.0:80 is held by PROGRAM\nany other line\n```\n",
            "- `hotlb down the whole`: a command.\n- `flow = one of them`: a setting.\n- `two words`\n",
            "It says `that and this`.\n",
        ] {
            assert_eq!(found(page), [""; 0], "{page}");
        }
    }

    #[test]
    fn tables_have_the_columns_of_the_code() {
        let code = "const HEAD: [&str; 4] = [\"ID\", \"WHEN\", \"LOST\", \"SELF %\"];";
        let found = |page| {
            let files = [("lb-userspace/src/one.rs", code), ("README.md", page)];
            let findings = check(&Sources::of(&files));
            findings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            found("```text\n ID   WHEN    SELF %\n 1   now  3\n```\n"),
            [""; 0]
        );
        assert_eq!(found("```text\n WHEN  ID  LOST\n```\n").len(), 1);
        assert!(found("\nID  WHEN  TOOK\n")[0].starts_with("README.md:2: shows"));
    }

    #[test]
    fn a_message_may_have_another_as_its_value() {
        let code =
            "fn f() { g(\"the check says {outcome}\"); g(\"it exited\"); g(\"some wait\"); }";
        let found = |page| {
            let files = [("lb-common/src/one.rs", code), ("docs/user/one.md", page)];
            check(&Sources::of(&files)).len()
        };
        assert_eq!(found("- `the check says it exited; some wait`\n"), 0);
        assert_eq!(found("- `the check it exited`\n"), 1);
    }

    #[test]
    fn what_no_message_says_is_found() {
        for (page, expected) in [
            (
                "a\n\n- `0.0.0.0:80 is used by NAME`: stop it.\n",
                ":3: quotes",
            ),
            ("- `… is held by …`, `NAME is gone`\n", "\"is gone\""),
            (
                "```text\n! NAME is held\n! NAME is lost\n```\n",
                ":3: quotes",
            ),
            ("- `only in a test`\n", "only in a test"),
            (
                "```text\ngen1 is gone away         # a remark\ngen1\n```\n",
                "\"is gone away\"",
            ),
        ] {
            let found = found(page);
            assert_eq!(found.len(), 1, "{page}: {found:?}");
            assert!(found[0].contains(expected), "{found:?}");
        }
    }
}
