//! Numbers in documents are those they come from: each constant that a document quotes is read from
//! its definition, each figure of a benchmark from the page of all, and the document must say the same.

use super::{finding::Finding, sources::Sources};

/// Where a constant is defined, its name, and who quotes it.
type Constant = (&'static str, &'static str, &'static [Quote]);
/// A document, and what it must say while the constant has this value (of a duration: seconds).
/// It begins and ends with something else than a digit, so that 127 is not found in 1270.
type Quote = (&'static str, fn(u64) -> String);

#[rustfmt::skip] // a line for each quote
const CONSTANTS: &[Constant] = &[
    ("lb-common/src/generation.rs", "SEATS", &[
        ("docs/user/glossary.md", |n| format!("the lowest {} bits of its id", n.ilog2())),
        ("docs/user/observe/metrics.md", |n| format!("at most {} living generations", n - 1)),
        ("docs/operate/troubleshooting.md", |n| format!("`{} generations exist at once`", n - 1)),
        ("docs/user/guarantees.md", |n| format!("a service, {} generations at once", n - 1)),
    ]),
    ("lb-common/src/lib.rs", "SLOTS", &[
        ("docs/operate/troubleshooting.md", |n| format!("listeners`: {} slots a group", grouped(n))),
        ("docs/user/guarantees.md", |n| format!("a rollback, {} listeners in a group", grouped(n - 1))),
    ]),
    ("lb-common/src/recent.rs", "ROWS", &[
        ("docs/user/guarantees.md", |n| format!("the newest {} connections", grouped(n))),
        ("docs/user/observe/incidents.md", |n| format!("the newest {} of the host", grouped(n))),
        ("docs/user/observe/latency.md", |n| format!("a table of the newest {}.", grouped(n))),
        ("docs/user/observe/latency.md", |n| format!("than the newest {} of the host", grouped(n))),
    ]),
    ("lb-common/src/lib.rs", "EARLIEST_ABI", &[
        ("docs/operate/upgrade-agent.md", |n| format!("takes over: maps {n} and ")),
        ("docs/develop/architecture.md", |n| format!("pins (of layout {n} on,")),
    ]),
    ("lb-common/src/lib.rs", "ABI_VERSION", &[
        ("docs/operate/upgrade-agent.md", |n| format!(" and {n}, keeper ")),
    ]),
    ("lb-userspace/crates/generation/src/keeper/protocol.rs", "PROTOCOL", &[
        ("docs/operate/upgrade-agent.md", |n| format!(", keeper {n}, ledger ")),
    ]),
    ("lb-userspace/crates/store/src/ledger.rs", "LEDGER_VERSION", &[
        ("docs/operate/upgrade-agent.md", |n| format!(", ledger {n}, journal ")),
    ]),
    ("lb-userspace/crates/store/src/journal/schema.rs", "SCHEMA", &[
        ("docs/operate/upgrade-agent.md", |n| format!(", journal {n}, hand-over ")),
    ]),
    ("lb-userspace/crates/agent/src/takeover/message.rs", "PROTOCOL", &[
        ("docs/operate/upgrade-agent.md", |n| format!(", hand-over {n}.")),
    ]),
    ("lb-userspace/crates/core/src/config/policy_tables.rs", "MOST_KEPT", &[
        ("docs/user/rollouts.md", |n| format!("included; {n} at most")),
        ("docs/user/guarantees.md", |n| format!("at once, {n} of them kept")),
        ("docs/hotlb.toml", |n| format!("generations (0 to {n})")),
    ]),
    ("lb-userspace/crates/core/src/config/datagrams.rs", "FLOW_IDLE", &[
        ("docs/user/udp.md", |n| format!("(default {n} s,")),
    ]),
    ("lb-userspace/crates/core/src/config/datagrams.rs", "TABLE_LEAST", &[
        ("docs/hotlb.toml", |n| format!("at once ({n} to ")),
    ]),
    ("lb-userspace/crates/core/src/config/datagrams.rs", "TABLE_MOST", &[
        ("docs/hotlb.toml", |n| format!(" to {n}).")),
    ]),
    ("lb-userspace/crates/core/src/config/incidents.rs", "MOST_PER_HOUR", &[
        ("docs/hotlb.toml", |n| format!("captures in an hour (1 to {n})")),
    ]),
    ("lb-userspace/crates/generation/src/output/mod.rs", "ROOM", &[
        ("docs/operate/run.md", |n| format!("has room for {} MiB", n >> 20)),
    ]),
    ("lb-userspace/crates/generation/src/hook/output.rs", "KEPT", &[
        ("docs/user/rollouts.md", |n| format!("the last {} KiB are kept", n >> 10)),
    ]),
    ("lb-userspace/crates/profile/src/budget.rs", "MEMORY", &[
        ("docs/user/observe/profiling.md", |n| format!("has more than {} MiB;", n >> 20)),
        ("docs/user/observe/profiling.md", |n| format!("has more than {} MiB of memory", n >> 20)),
    ]),
    ("lb-userspace/crates/api/src/client.rs", "ANSWER", &[
        ("docs/user/cli.md", |n| format!("not answered for {n} s what")),
    ]),
    ("lb-userspace/crates/agent/src/takeover/mod.rs", "PATIENCE", &[
        ("docs/user/cli.md", |n| format!("hung ({n} s)")),
    ]),
];

/// What `cargo xtask bench` writes.
const BENCHMARKS: &str = "docs/develop/benchmarks.md";

/// A row of [`BENCHMARKS`], who quotes its first figure, and what stands around it there.
type Figure = (&'static str, &'static str, [&'static str; 2]);

#[rustfmt::skip] // a line for each quote
const FIGURES: &[Figure] = &[
    ("ratio, pair by pair", "README.md", ["new connections per second are ", " of plain"]),
    ("steer above the no-op, ns", "README.md", ["`steer` costs ", " ns above"]),
];

/// Every quote that is not what its source says now, and every source that is gone.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let mut findings = constants(sources, CONSTANTS);
    findings.extend(figures(sources, FIGURES));
    findings
}

fn constants(sources: &Sources, constants: &[Constant]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, name, quotes) in constants {
        let Some(value) = definition(sources.text(file), name).and_then(value) else {
            findings.push(Finding::whole(
                file,
                format!("no constant {name} that can be read, but documents quote it"),
            ));
            continue;
        };
        let wanted = quotes
            .iter()
            .map(|(quoting, words)| (*quoting, words(value)));
        findings.extend(wanted.filter_map(|(quoting, words)| {
            missing(sources, quoting, &words, &format!("{name} of {file}"))
        }));
    }
    findings
}

fn figures(sources: &Sources, figures: &[Figure]) -> Vec<Finding> {
    let page = sources.text(BENCHMARKS);
    let finding = |(row, quoting, [before, after]): &Figure| {
        let Some((_, rest)) = page.split_once(&format!("\n| {row} | ")) else {
            return Some(Finding::whole(
                BENCHMARKS,
                format!("no row \"{row}\", but {quoting} quotes it"),
            ));
        };
        let figure = rest.split_whitespace().next().unwrap_or_default();
        let words = format!("{before}{figure}{after}");
        missing(sources, quoting, &words, BENCHMARKS)
    };
    figures.iter().filter_map(finding).collect()
}

/// A finding if the document does not say it, wherever its lines break.
fn missing(sources: &Sources, document: &str, words: &str, source: &str) -> Option<Finding> {
    let text = sources.text(document);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.contains(words))
        .then(|| Finding::whole(document, format!("does not say \"{words}\" ({source})")))
}

/// What stands between `=` and `;`.
fn definition<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("const {name}: "))?;
    let (definition, _) = rest.split_once(';')?;
    Some(definition.split_once('=')?.1.trim())
}

/// Numbers, joined by `*` or `<<`; also as a count of seconds.
fn value(expression: &str) -> Option<u64> {
    let seconds = expression.strip_prefix("Duration::from_secs(");
    let expression = seconds.map_or(Some(expression), |rest| rest.strip_suffix(')'))?;
    let mut words = expression.split_whitespace();
    let mut value = number(words.next()?)?;
    while let Some(operator) = words.next() {
        let operand = number(words.next()?)?;
        value = match operator {
            "*" => value.checked_mul(operand)?,
            "<<" => value.checked_shl(operand.try_into().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

fn number(word: &str) -> Option<u64> {
    word.replace('_', "").parse().ok()
}

/// 32768 as `32,768`.
fn grouped(number: u64) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "/// Seats.\npub const SEATS: u32 = 128;\n";
    const SEATS: &[Constant] = &[(
        "a.rs",
        "SEATS",
        &[("a.md", |n| format!("at most {} living", n - 1))],
    )];

    fn findings(code: &str, document: &str) -> Vec<String> {
        let sources = Sources::of(&[("a.rs", code), ("a.md", document)]);
        let findings = constants(&sources, SEATS);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_quote_is_found_wherever_lines_break() {
        assert_eq!(
            findings(CODE, "There are at\nmost 127 living ones."),
            [""; 0]
        );
    }

    #[test]
    fn another_number_is_a_finding() {
        let expected = ["a.md: does not say \"at most 127 living\" (SEATS of a.rs)"];
        assert_eq!(findings(CODE, "at most 63 living ones"), expected);
        assert_eq!(
            findings("const SEATS: u32 = 64;", "at most 127 living").len(),
            1
        );
    }

    #[test]
    fn a_constant_that_is_gone_is_a_finding() {
        let expected = ["a.rs: no constant SEATS that can be read, but documents quote it"];
        for code in [
            "",
            "const PLACES: u32 = 128;",
            "const SEATS: u32 = seats();",
        ] {
            assert_eq!(findings(code, "at most 127 living"), expected, "{code}");
        }
    }

    #[test]
    fn what_definitions_are_worth() {
        for (expression, expected) in [
            ("4_000", Some(4000)),
            ("1 << 15", Some(32768)),
            ("2 * 1024 * 1024", Some(2 << 20)),
            ("Duration::from_secs(125)", Some(125)),
            ("Duration::from_millis(500)", None),
            ("OTHER - 1", None),
        ] {
            assert_eq!(value(expression), expected, "{expression}");
        }
    }

    #[test]
    fn a_figure_of_an_earlier_run_is_a_finding() {
        let quotes = [("ratio", "a.md", ["it is ", " of that"])];
        let page = |row: &str| {
            format!("| | |\n| --- | --- |\n| {row} | 0.985 [0.7 to 1.3] (aim: met) |\n")
        };
        let count = |row: &str, document: &str| {
            let page = page(row);
            figures(
                &Sources::of(&[(BENCHMARKS, &page), ("a.md", document)]),
                &quotes,
            )
            .len()
        };
        assert_eq!(count("ratio", "it is 0.985\nof that"), 0);
        assert_eq!(count("ratio", "it is 0.973 of that"), 1);
        assert_eq!(count("another", "it is 0.985 of that"), 1);
    }

    #[test]
    fn no_quote_begins_or_ends_with_a_digit() {
        let quotes = CONSTANTS.iter().flat_map(|(_, _, quotes)| *quotes);
        for (document, words) in quotes {
            let words = words(1 << 32);
            let ends = [words.chars().next(), words.chars().last()];
            let is_digit = |end: &Option<char>| end.is_none_or(|end| end.is_ascii_digit());
            assert!(!ends.iter().any(is_digit), "{document}: {words}");
        }
    }
}
