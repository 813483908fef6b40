//! The findings for people: a table of all, then what is not as it should be.

use comfy_table::{Table, presets};

use super::finding::{Finding, Verdict, exit};

/// The most characters of what was found that the table shows; the rest is below it.
const WIDTH: usize = 56;

/// Table, explanations, and the sum in one line.
pub(super) fn text(findings: &[Finding]) -> String {
    let mut lines = table(findings);
    for finding in findings {
        lines.extend(explain(finding));
    }
    lines.push(String::new());
    lines.push(sum(findings));
    lines.join("\n")
}

fn table(findings: &[Finding]) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["CHECK", "VERDICT", "FOUND", "LOOKED AT"]);
    for finding in findings {
        table.add_row([
            finding.check.as_str(),
            finding.verdict.name(),
            &shorten(&finding.found),
            &finding.looked_at,
        ]);
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn explain(finding: &Finding) -> Vec<String> {
    let (Some(cost), Some(advice)) = (&finding.cost, &finding.advice) else {
        return Vec::new();
    };
    vec![
        String::new(),
        format!(
            " {}: {}: {}",
            finding.verdict.name(),
            finding.check,
            printable(&finding.found)
        ),
        format!("   costs: {cost}"),
        format!("   to do: {advice}"),
    ]
}

fn sum(findings: &[Finding]) -> String {
    let count = |verdict| {
        findings
            .iter()
            .filter(|found| found.verdict == verdict)
            .count()
    };
    let begin = match exit(findings) {
        0 => "hotlb can work here",
        7 => "hotlb cannot work here",
        _ => "not everything hotlb needs could be checked; try sudo hotlb doctor",
    };
    let counts: Vec<String> = [Verdict::Missing, Verdict::Degraded, Verdict::Unchecked]
        .into_iter()
        .map(|verdict| (count(verdict), verdict.name()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    if counts.is_empty() {
        format!(" {begin}.")
    } else {
        format!(" {begin} ({}).", counts.join(", "))
    }
}

/// Without line ends and whatever else paths and the verifier may hold.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn shorten(found: &str) -> String {
    let clean = printable(found);
    if clean.chars().count() <= WIDTH {
        clean
    } else {
        clean.chars().take(WIDTH - 1).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Check, *};

    #[test]
    fn what_is_wrong_is_explained_in_full() {
        let long = "x".repeat(80);
        let findings = [
            Check::needed("kernel", "there").ok("6.1"),
            Check::optional("queue", "there").degraded(long.clone(), "time", "more"),
        ];
        let text = text(&findings);
        assert!(text.contains(&format!("degraded: queue: {long}")), "{text}");
        assert!(
            text.contains("costs: time") && text.contains("to do: more"),
            "{text}"
        );
        assert!(
            text.ends_with("hotlb can work here (1 degraded)."),
            "{text}"
        );
        assert!(!text.contains("ok: kernel"), "{text}");
    }

    #[test]
    fn nothing_reaches_the_terminal_raw() {
        let finding = Check::needed("bpffs", "there").missing("a\u{1b}[31m\nb", "c", "d");
        assert!(!text(std::slice::from_ref(&finding)).contains('\u{1b}'));
    }
}
