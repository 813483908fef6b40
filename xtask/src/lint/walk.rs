//! The walk through the code in the architecture leads through rooms that are there, and few of them; its table of locks
//! has every lock.

use std::collections::BTreeSet;

use super::{finding::Finding, sources::Sources};

const PAGE: &str = "docs/develop/architecture.md";
const WALK: &str = "## A promote, room by room";
const LOCKS: &str = "## Locks and tasks";
/// Rooms that a walk may have.
const ROOMS: usize = 8;
/// Begins the sentence that says how many other locks there are.
const OTHERS: &str = "Each of the other ";
/// Where locks are counted.
const USER_SPACE: &str = "lb-userspace/";

/// What is wrong with the walk and the table of locks.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let mut findings = walk(sources);
    findings.extend(locks(sources));
    findings
}

fn walk(sources: &Sources) -> Vec<Finding> {
    let page = sources.text(PAGE);
    let rows = rows(page, WALK);
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    if rows.is_empty() || rows.len() > ROOMS {
        let words = format!(
            "the walk has {} rooms, of at least 1 and at most {ROOMS}",
            rows.len()
        );
        findings.push(Finding::whole(PAGE, words));
    }
    for row in rows {
        let mut codes = row.split('`').skip(1).step_by(2);
        let Some(path) = codes.next() else {
            findings.push(Finding::whole(
                PAGE,
                format!("a room without a file: {row}"),
            ));
            continue;
        };
        if !seen.insert(path) {
            findings.push(Finding::whole(
                PAGE,
                format!("the walk comes to {path} twice"),
            ));
        }
        let file = sources.rust().find(|(file, _)| file.name.ends_with(path));
        let Some((_, text)) = file else {
            findings.push(Finding::whole(
                PAGE,
                format!("the walk leads to {path}, which is gone"),
            ));
            continue;
        };
        for function in codes.filter(|code| code.ends_with("()")) {
            let name = function.trim_end_matches("()");
            let name = name.rsplit("::").next().unwrap_or(name);
            if !text.contains(&format!("fn {name}")) {
                let words = format!("the walk leads to {function}, which {path} does not have");
                findings.push(Finding::whole(PAGE, words));
            }
        }
    }
    findings
}

fn locks(sources: &Sources) -> Vec<Finding> {
    let page = sources.text(PAGE);
    let listed = rows(page, LOCKS)
        .iter()
        .filter(|row| row.contains("tokio"))
        .count();
    let others = page
        .split_once(OTHERS)
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
    let there = sources
        .rust()
        .filter(|(file, _)| file.name.starts_with(USER_SPACE));
    let there: usize = there
        .map(|(_, text)| text.lines().filter(|line| declares(line)).count())
        .sum();
    match others {
        Some(others) if others + listed == there => Vec::new(),
        others => vec![Finding::whole(
            PAGE,
            format!(
                "user space declares {there} locks; the table lists {listed} and the sentence \"{OTHERS}N\" {}: list \
                 the new one, or count it",
                others.map_or_else(|| "no number".to_owned(), |others| others.to_string())
            ),
        )],
    }
}

/// Whether the line declares a lock: a field, a static or a type of one.
fn declares(line: &str) -> bool {
    let code = line.trim_start();
    let is_lock = |after: &str| after.starts_with("Mutex<") || after.starts_with("RwLock<");
    let named = code.char_indices().any(|(at, _)| {
        let before = &code[..at];
        is_lock(&code[at..])
            && [": ", "<", "(", "= ", "::"]
                .iter()
                .any(|end| before.ends_with(end))
    });
    named && !code.starts_with("//") && !code.contains('&') && !code.contains("fn ")
}

/// The lines of the first table behind a heading, without its head.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let Some((_, rest)) = page.split_once(heading) else {
        return Vec::new();
    };
    let lines = rest.lines().skip_while(|line| !line.starts_with('|'));
    lines
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: &str = "a.rs";

    fn said(walk: &str, locks: &str, code: &str) -> Vec<String> {
        let page = format!(
            "{WALK}\n\n| | room | what |\n| --- | --- | --- |\n{walk}\n\n{LOCKS}\n\n| | by |\n| --- | --- |\n{locks}"
        );
        let sources = Sources::of(&[(PAGE, page.as_str()), ("lb-userspace/src/a.rs", code)]);
        check(&sources).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rooms_that_are_gone_or_come_twice_are_found() {
        let locks = "| `A::b` (tokio mutex) | x |\n\nEach of the other 0 locks\n";
        let code = "struct A {\n    b: Mutex<u8>,\n}\nfn go() {}\n";
        assert_eq!(said("| 1 | `a.rs`: `go()` | x |", locks, code), [""; 0]);
        let gone = said("| 1 | `b.rs`: `go()` | x |", locks, code);
        assert!(gone[0].contains("b.rs, which is gone"), "{gone:?}");
        let without = said("| 1 | `a.rs`: `A::come()` | x |", locks, code);
        assert!(without[0].contains("does not have"), "{without:?}");
        let twice = format!("| 1 | `{ROOM}` | x |\n| 2 | `{ROOM}` | x |");
        assert!(said(&twice, locks, code)[0].contains("twice"));
        let many: Vec<String> = (0..9).map(|n| format!("| {n} | `a.rs` | x |")).collect();
        assert!(said(&many.join("\n"), locks, code)[0].contains("9 rooms"));
    }

    #[test]
    fn a_lock_that_is_not_counted_is_found() {
        let walk = "| 1 | `a.rs`: `go()` | x |";
        let locks = "| `A::b` (tokio mutex) | x |\n\nEach of the other 1 locks\n";
        let one = "struct A {\n    b: Mutex<u8>,\n}\nfn go() {}\n";
        assert!(said(walk, locks, one)[0].contains("declares 1 locks"));
        let two =
            format!("{one}static C: sync::Mutex<u8> = Mutex::new(0);\nfn f(of: &Mutex<u8>) {{}}\n");
        assert_eq!(said(walk, locks, &two), [""; 0]);
    }
}
