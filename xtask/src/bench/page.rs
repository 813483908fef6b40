//! The page that the benchmarks' output becomes.

use std::fmt::Write as _;

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench`, all in one run; not edited. Clients, servers and agent share the machine's CPUs. What is
compared was measured in turns; values are medians with [least to greatest], or what their names say. Such machines are
noisy: run it on yours. `--quick` is a fifth of it, and a name behind it (`cargo xtask bench steer`) one part.
[Performance](performance.md) says what the figures mean, and what was tried where an aim is missed.
";

/// What was measured, on what.
#[derive(Debug)]
pub(super) struct Page {
    /// Names and values.
    pub(super) machine: Vec<(&'static str, String)>,
    /// How long it took.
    pub(super) minutes: u64,
    /// What the benchmarks printed.
    pub(super) lines: Vec<String>,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Heading,
    Figure,
    Table,
    Text,
}

impl Page {
    /// As Markdown.
    pub(super) fn render(&self) -> String {
        let mut page = String::from(HEAD);
        page.push_str("\n| | |\n| --- | --- |\n");
        for (name, value) in &self.machine {
            row(&mut page, name, value);
        }
        row(&mut page, "minutes", &self.minutes.to_string());
        let count = |what: &str| {
            self.lines
                .iter()
                .filter(|line| line.ends_with(what))
                .count()
        };
        row(&mut page, "aims met", &count(": met)").to_string());
        row(&mut page, "aims missed", &count(": MISSED)").to_string());
        let mut last = None;
        for line in &self.lines {
            let Some((kind, text)) = read(line) else {
                last = None;
                continue;
            };
            if last != Some(kind) || kind == Kind::Heading {
                page.push('\n');
            }
            match (kind, text.split_once('\t')) {
                (Kind::Heading, _) => page.push_str("## "),
                (Kind::Figure, Some((name, value))) => {
                    if last != Some(Kind::Figure) {
                        page.push_str("| | |\n| --- | --- |\n");
                    }
                    row(&mut page, name, &value.replace("MISSED", "**MISSED**"));
                }
                _ => {}
            }
            if kind != Kind::Figure {
                page.push_str(&said(text));
                page.push('\n');
            }
            last = Some(kind);
        }
        page
    }
}

fn said(text: &str) -> String {
    match text.strip_prefix("skip\t") {
        Some(skipped) => format!("Not measured: {}", skipped.replace('\t', ": ")),
        None => text.to_owned(),
    }
}

fn row(page: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let _written = writeln!(page, "| {name} | {value} |");
}

/// What a line is and says; `None` for one that only separates, and for remarks of the harness.
fn read(line: &str) -> Option<(Kind, &str)> {
    if line.is_empty() || line.starts_with("hotlb-tests: ") {
        None
    } else if let Some(heading) = line.strip_prefix("== ") {
        Some((Kind::Heading, heading))
    } else if let Some(figure) = line.strip_prefix("figure\t") {
        Some((Kind::Figure, figure))
    } else if line.starts_with('|') {
        Some((Kind::Table, line))
    } else {
        Some((Kind::Text, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_sections_and_tables() {
        let lines = [
            "== Steering",
            "What it is.",
            "figure\tns per run\t5",
            "figure\tabove\t3 (aim: 2: MISSED)",
            "",
            "| a |",
            "| ---: |",
            "",
            "| b |",
            "| ---: |",
            "skip\tperf\tnot installed",
            "hotlb-tests: removed what an earlier run left",
            "== Next",
            "figure\tper second\t9 (aim: 8: met)",
        ];
        let page = Page {
            machine: vec![("kernel", "6.18".to_owned())],
            minutes: 3,
            lines: lines.map(str::to_owned).into(),
        };
        let body = page.render().replace(HEAD, "");
        assert_eq!(
            body,
            "\n| | |\n| --- | --- |\n| kernel | 6.18 |\n| minutes | 3 |\n| aims met | 1 |\n| aims missed | 1 |\n\n\
             ## Steering\n\nWhat it is.\n\n| | |\n| --- | --- |\n| ns per run | 5 |\n\
             | above | 3 (aim: 2: **MISSED**) |\n\n| a |\n| ---: |\n\n| b |\n| ---: |\n\n\
             Not measured: perf: not installed\n\n\
             ## Next\n\n| | |\n| --- | --- |\n| per second | 9 (aim: 8: met) |\n"
        );
    }
}
