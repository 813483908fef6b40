//! Kernel parameters that change what hotlb can promise.

use super::finding::{Check, Finding};
use crate::sys::sysctl;

/// A parameter: its name, how it is judged.
struct Rule {
    name: &'static str,
    needed: bool,
    /// From the value, `None` if it is not shown here.
    judge: fn(Option<i64>) -> Opinion,
}

/// What is to be said of a value.
enum Opinion {
    Fine(&'static str),
    Degraded(&'static str, &'static str),
    Missing(&'static str, &'static str),
}

use Opinion::{Degraded, Fine, Missing};

const RULES: [Rule; 7] = [
    Rule {
        name: "net.ipv4.tcp_syncookies",
        needed: false,
        judge: |value| match value {
            Some(2) => Degraded(
                "every connection is steered at its SYN and again at its ACK: it costs twice as \
                 much, and a handshake begun before a promote ends at the new generation",
                "sysctl -w net.ipv4.tcp_syncookies=1 (cookies only when the queue is full)",
            ),
            _ => Fine(""),
        },
    },
    Rule {
        name: "net.core.somaxconn",
        needed: false,
        judge: |value| match value {
            Some(..1024) => Degraded(
                "no more connections than that wait in a parking listener; the others are dropped \
                 and come back after a second",
                "sysctl -w net.core.somaxconn=4096",
            ),
            _ => Fine(""),
        },
    },
    Rule {
        name: "net.ipv4.tcp_migrate_req",
        needed: false,
        judge: |_| Fine("hotlb moves waiting connections either way"),
    },
    Rule {
        name: "kernel.yama.ptrace_scope",
        needed: true,
        judge: |value| match value {
            Some(3..) => Missing(
                "pidfd_getfd(2) is refused even to root: a server's listeners cannot be taken over, \
                 so it never gets ready (mode = \"inherit\" does not need it)",
                "boot with kernel.yama.ptrace_scope below 3; it cannot be lowered again",
            ),
            None => Fine("no Yama"),
            _ => Fine(""),
        },
    },
    Rule {
        name: "net.core.bpf_jit_enable",
        needed: false,
        judge: |value| match value {
            Some(0) => Degraded(
                "hotlb's programs are interpreted: each new connection costs several times as much",
                "sysctl -w net.core.bpf_jit_enable=1",
            ),
            None => Fine("not shown in this network namespace"),
            _ => Fine(""),
        },
    },
    Rule {
        name: "kernel.bpf_stats_enabled",
        needed: false,
        judge: |value| match value {
            Some(1..) => Degraded(
                "every run of an eBPF program takes about 20 ns longer",
                "sysctl -w kernel.bpf_stats_enabled=0 when nothing is measured",
            ),
            _ => Fine(""),
        },
    },
    Rule {
        name: "kernel.unprivileged_bpf_disabled",
        needed: false,
        judge: |_| Fine("hotlb asks as root"),
    },
];

/// The values, in the order of the rules.
#[derive(Clone, Debug)]
pub(super) struct Sysctls(Vec<Option<i64>>);

impl Sysctls {
    /// Looks.
    pub(super) fn gather() -> Self {
        Self(RULES.iter().map(|rule| sysctl::read(rule.name)).collect())
    }
}

/// The verdicts.
pub(super) fn check(sysctls: &Sysctls) -> Vec<Finding> {
    let values = sysctls.0.iter().copied();
    RULES
        .iter()
        .zip(values)
        .map(|(rule, value)| judge(rule, value))
        .collect()
}

fn judge(rule: &Rule, value: Option<i64>) -> Finding {
    let file = format!("/proc/sys/{}", rule.name.replace('.', "/"));
    let check = if rule.needed {
        Check::needed(rule.name, file)
    } else {
        Check::optional(rule.name, file)
    };
    let found = value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    match (rule.judge)(value) {
        Fine("") => check.ok(found),
        Fine(note) => check.ok(format!("{found} ({note})")),
        Degraded(cost, advice) => check.degraded(found, cost, advice),
        Missing(cost, advice) => check.missing(found, cost, advice),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    fn verdict(name: &str, value: Option<i64>) -> Verdict {
        let rule = RULES.iter().find(|rule| rule.name == name).unwrap();
        judge(rule, value).verdict
    }

    #[test]
    fn the_traps() {
        for (name, good, bad) in [
            ("net.ipv4.tcp_syncookies", 1, 2),
            ("net.core.somaxconn", 1024, 1023),
            ("net.core.bpf_jit_enable", 1, 0),
            ("kernel.bpf_stats_enabled", 0, 1),
        ] {
            assert_eq!(verdict(name, Some(good)), Verdict::Ok, "{name}");
            assert_eq!(verdict(name, Some(bad)), Verdict::Degraded, "{name}");
        }
        assert_eq!(verdict("kernel.yama.ptrace_scope", Some(2)), Verdict::Ok);
        assert_eq!(
            verdict("kernel.yama.ptrace_scope", Some(3)),
            Verdict::Missing
        );
    }

    #[test]
    fn what_is_not_shown_is_no_fault() {
        for rule in &RULES {
            assert_eq!(judge(rule, None).verdict, Verdict::Ok, "{}", rule.name);
        }
    }

    #[test]
    fn some_are_only_told() {
        for value in 0..3 {
            assert_eq!(
                verdict("net.ipv4.tcp_migrate_req", Some(value)),
                Verdict::Ok
            );
            assert_eq!(
                verdict("kernel.unprivileged_bpf_disabled", Some(value)),
                Verdict::Ok
            );
        }
    }
}
