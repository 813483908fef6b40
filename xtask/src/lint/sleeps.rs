//! No fixed sleeps: code waits for the thing itself, with a deadline.

use super::{finding::Finding, paths, sources::Sources};

/// A file that may sleep.
struct Allowed {
    /// The beginning of its name.
    file: &'static str,
    /// Why sleeping is right there.
    reason: &'static str,
}

const ALLOWED: [Allowed; 3] = [
    Allowed {
        file: "tests/src/wait.rs",
        reason: "the one place that polls, with a deadline",
    },
    Allowed {
        file: "tests/src/bin/plain-server/",
        reason: "a server that is slow when told to be",
    },
    Allowed {
        file: "tests/src/bin/trouble-server/",
        reason: "a server that is slow when told to be",
    },
];

/// Every sleep outside the allowed files, and every allowance that nothing uses any more.
pub(crate) fn check(sources: &Sources) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for (file, text) in sources.rust() {
        // What is no Rust is a finding of the import rules.
        let paths = paths::in_file(text).unwrap_or_default();
        let sleeps = paths.iter().filter(|path| is_sleep(&path.segments));
        let lines: Vec<_> = sleeps.map(|path| path.line).collect();
        match ALLOWED
            .iter()
            .find(|allowed| file.name.starts_with(allowed.file))
        {
            Some(allowed) if !lines.is_empty() => used.push(allowed.file),
            Some(_) => {}
            None => findings.extend(lines.iter().map(|line| finding(&file.name, *line))),
        }
    }
    findings.extend(idle(&used));
    findings
}

fn is_sleep(segments: &[String]) -> bool {
    let segments: Vec<_> = segments.iter().map(String::as_str).collect();
    matches!(segments.as_slice(), [.., "thread" | "time", "sleep"])
}

fn finding(file: &str, line: usize) -> Finding {
    Finding::at(
        file,
        line,
        "a fixed sleep: wait for the thing itself, with a deadline",
    )
}

fn idle<'a>(used: &'a [&str]) -> impl Iterator<Item = Finding> + 'a {
    let idle = ALLOWED
        .iter()
        .filter(|allowed| !used.contains(&allowed.file));
    idle.map(|Allowed { file, reason }| {
        Finding::whole(
            file,
            format!("may sleep ({reason}) but does not: take it off the list"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLLS: (&str, &str) = ("tests/src/wait.rs", "fn f() { std::thread::sleep(X) }");
    const SLOW: (&str, &str) = (
        "tests/src/bin/plain-server/server.rs",
        "use tokio::time::sleep;",
    );
    const TROUBLE: (&str, &str) = (
        "tests/src/bin/trouble-server/serve.rs",
        "use std::thread::sleep;",
    );

    #[test]
    fn a_sleep_is_found_however_it_is_named() {
        let agent = "use tokio::{time::sleep};\nfn f() { std::thread::sleep(X); sleep_until(Y) }";
        let sources = Sources::of(&[
            POLLS,
            SLOW,
            TROUBLE,
            ("lb-userspace/crates/agent/src/agent/mod.rs", agent),
        ]);
        let places: Vec<_> = check(&sources).iter().map(ToString::to_string).collect();
        assert_eq!(places.len(), 2);
        assert!(places[0].contains("mod.rs:1:") && places[1].contains("mod.rs:2:"));
    }

    #[test]
    fn an_allowance_that_nothing_uses_is_a_finding() {
        let findings = check(&Sources::of(&[SLOW, TROUBLE]));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].to_string().contains("take it off the list"));
    }
}
