//! `docs/` is a book: SUMMARY.md lists every page once. Pages that moved leave a page that leads on, with the
//! headings that messages, unit files and alert rules of earlier releases name.

use super::{finding::Finding, links, sources::Sources};

const DOCS: &str = "docs/";
const SUMMARY: &str = "docs/SUMMARY.md";

/// A page that moved, and the headings that are named from outside the project.
struct Moved {
    page: &'static str,
    anchors: &'static [&'static str],
}

const fn moved(page: &'static str) -> Moved {
    Moved { page, anchors: &[] }
}

/// What f4d529e names in `hotlb.service`, `hotlb.toml`, `prometheus/alerts.yml` and in messages.
const MOVED: [Moved; 11] = [
    moved("docs/decisions/README.md"),
    moved("docs/incidents.md"),
    moved("docs/kernels.md"),
    moved("docs/latency.md"),
    Moved {
        page: "docs/operations.md",
        anchors: &[
            "checks-and-hooks",
            "drills",
            "hotlbaborts",
            "hotlbagentdescriptors",
            "hotlbagentdown",
            "hotlbclientswait",
            "hotlbdrainoverdue",
            "hotlbfailover",
            "hotlbflowtabletoosmall",
            "hotlbgroupusurped",
            "hotlbhookfailed",
            "hotlbjournalunwritable",
            "hotlblosses",
            "hotlbmemorypressure",
            "hotlbnoactivegeneration",
            "hotlbpolitefailed",
            "hotlbrolloutstuck",
            "hotlbrolloutundone",
            "hotlbunselected",
            "hotlbwarnings",
            "hotlbworkerhangs",
        ],
    },
    moved("docs/profiling.md"),
    moved("docs/rollouts.md"),
    moved("docs/security.md"),
    moved("docs/traces.md"),
    moved("docs/udp.md"),
    moved("docs/workers.md"),
];

/// Pages that the book lacks or has twice, and pages that moved without leading on.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let mut findings = listed_once(sources);
    findings.extend(MOVED.iter().flat_map(|moved| lead_on(sources, moved)));
    findings
}

/// A link that leads nowhere is the rule of links to find.
fn listed_once(sources: &Sources) -> Vec<Finding> {
    let listed: Vec<String> = links::links(sources.text(SUMMARY))
        .into_iter()
        .map(|(_, target)| format!("{DOCS}{target}"))
        .collect();
    let pages = sources.with_extension("md").map(|(file, _)| &*file.name);
    let pages = pages.filter(|page| page.starts_with(DOCS) && *page != SUMMARY);
    let pages = pages.filter(|page| !MOVED.iter().any(|moved| moved.page == *page));
    let finding = |page: &str| {
        let times = listed.iter().filter(|listed| *listed == page).count();
        let words = format!("lists {page} {times} times; once is right");
        (times != 1).then(|| Finding::whole(SUMMARY, words))
    };
    pages.filter_map(finding).collect()
}

fn lead_on(sources: &Sources, moved: &Moved) -> Vec<Finding> {
    let text = sources.text(moved.page);
    if links::links(text).is_empty() {
        let words = "moved; earlier releases name it, so it has to link to its new place";
        return vec![Finding::whole(moved.page, words)];
    }
    let anchors = links::anchors(text);
    let lost = moved
        .anchors
        .iter()
        .filter(|anchor| !anchors.contains(**anchor));
    let words = |anchor| format!("no heading #{anchor}, which earlier releases name");
    lost.map(|anchor| Finding::whole(moved.page, words(anchor)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree in which every page that moved leads on.
    fn findings(summary: &str, pages: &[(&str, &str)]) -> Vec<String> {
        let anchors = MOVED.iter().flat_map(|moved| moved.anchors);
        let headings: Vec<_> = anchors
            .map(|anchor| format!("\n## [{anchor}](new.md)\n"))
            .collect();
        let headings = headings.concat();
        let mut files = vec![(SUMMARY, summary)];
        let old = MOVED.iter().map(|moved| (moved.page, &*headings));
        files.extend(old.filter(|(page, _)| pages.iter().all(|(other, _)| other != page)));
        files.extend(pages);
        let found = check(&Sources::of(&files));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_page_is_listed_once() {
        let pages = [("docs/a.md", ""), ("docs/b/c.md", "")];
        assert_eq!(findings("[a](a.md)\n[c](b/c.md)", &pages), [""; 0]);
        let expected = ["docs/SUMMARY.md: lists docs/b/c.md 0 times; once is right"];
        assert_eq!(findings("[a](a.md)", &pages), expected);
        assert_eq!(findings("[a](a.md) [c](b/c.md) [d](a.md)", &pages).len(), 1);
    }

    #[test]
    fn a_page_that_moved_leads_on() {
        let gone = [("docs/udp.md", "# UDP\n\nThis page moved.\n")];
        assert_eq!(findings("", &gone).len(), 1);
        let short = [("docs/operations.md", "# Operations\n\n## [Drills](x.md)\n")];
        let lost = findings("", &short);
        assert_eq!(lost.len(), 20, "{lost:?}");
        assert!(lost.iter().any(|line| line.contains("#hotlbagentdown")));
    }
}
