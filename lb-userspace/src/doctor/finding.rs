//! What a check says: one shape for all of them.

use serde::Serialize;

use super::rights::Rights;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// hotlb works, with the cost that is said.
    Degraded,
    /// hotlb does not work.
    Missing,
    /// This user may not look.
    Unchecked,
}

impl Verdict {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
            Self::Unchecked => "not checked",
        }
    }
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What is checked; keeps its name between versions, for scripts.
    pub(super) check: String,
    /// How it is.
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) found: String,
    /// Where: a file, a system call, a directory.
    pub(super) looked_at: String,
    /// Whether hotlb cannot work without it.
    pub(super) needed: bool,
    /// What it costs that it is so; nothing when it is as it should be.
    pub(super) cost: Option<String>,
    /// What to do about it.
    pub(super) advice: Option<String>,
}

/// A check that has not come to its verdict.
#[derive(Clone, Debug)]
pub(super) struct Check {
    name: String,
    looked_at: String,
    needed: bool,
}

impl Check {
    /// A check of something hotlb cannot work without.
    pub(super) fn needed(name: impl Into<String>, looked_at: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            looked_at: looked_at.into(),
            needed: true,
        }
    }

    /// A check of something hotlb can work without.
    pub(super) fn optional(name: impl Into<String>, looked_at: impl Into<String>) -> Self {
        Self {
            needed: false,
            ..Self::needed(name, looked_at)
        }
    }

    /// As it should be.
    pub(super) fn ok(self, found: impl Into<String>) -> Finding {
        self.finding(Verdict::Ok, found.into(), None)
    }

    /// It works, but: what it costs, what to do.
    pub(super) fn degraded(self, found: impl Into<String>, cost: &str, advice: &str) -> Finding {
        self.finding(Verdict::Degraded, found.into(), Some((cost, advice)))
    }

    /// hotlb cannot work: what it costs, what to do.
    pub(super) fn missing(self, found: impl Into<String>, cost: &str, advice: &str) -> Finding {
        self.finding(Verdict::Missing, found.into(), Some((cost, advice)))
    }

    /// This user may not look.
    pub(super) fn unchecked(self, found: impl Into<String>) -> Finding {
        self.finding(Verdict::Unchecked, found.into(), None)
    }

    /// The system said no: for want of rights, which says nothing about the host; or with all
    /// rights, and then it is the host.
    pub(super) fn refused(self, rights: &Rights, found: &str, cost: &str, advice: &str) -> Finding {
        match rights.shortage() {
            Some(shortage) => self.unchecked(shortage),
            None => self.missing(found, cost, advice),
        }
    }

    fn finding(self, verdict: Verdict, found: String, more: Option<(&str, &str)>) -> Finding {
        Finding {
            check: self.name,
            verdict,
            found,
            looked_at: self.looked_at,
            needed: self.needed,
            cost: more.map(|(cost, _)| cost.to_owned()),
            advice: more.map(|(_, advice)| advice.to_owned()),
        }
    }
}

/// The exit code: 7 when something needed is missing, else 4 when something needed could not be
/// looked at, else 0.
pub(super) fn exit(findings: &[Finding]) -> u8 {
    let any = |verdict| {
        findings
            .iter()
            .any(|found| found.needed && found.verdict == verdict)
    };
    if any(Verdict::Missing) {
        7
    } else if any(Verdict::Unchecked) {
        4
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed() -> Check {
        Check::needed("x", "y")
    }

    #[test]
    fn what_is_missing_outweighs_what_is_not_checked() {
        let ok = needed().ok("");
        let degraded = Check::optional("x", "y").degraded("", "", "");
        let unchecked = needed().unchecked("");
        let missing = needed().missing("", "", "");
        let informative = Check::optional("x", "y").unchecked("");
        assert_eq!(exit(&[]), 0);
        assert_eq!(exit(&[ok, degraded, informative]), 0);
        assert_eq!(exit(std::slice::from_ref(&unchecked)), 4);
        assert_eq!(exit(&[unchecked, missing]), 7);
    }

    #[test]
    fn a_refusal_is_the_hosts_fault_only_with_all_rights() {
        let refuse = |rights: &Rights| needed().refused(rights, "no", "cost", "advice").verdict;
        assert_eq!(refuse(&Rights::all()), Verdict::Missing);
        assert_eq!(refuse(&Rights::of_nobody()), Verdict::Unchecked);
    }

    #[test]
    fn json_names_stay() {
        let json = serde_json::to_value(needed().unchecked("z")).unwrap();
        let expected = serde_json::json!({
            "check": "x", "verdict": "unchecked", "found": "z", "looked_at": "y",
            "needed": true, "cost": null, "advice": null,
        });
        assert_eq!(json, expected);
    }
}
