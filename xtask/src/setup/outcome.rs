//! What became of one thing the project needs.

use std::fmt;

/// One line of the report.
#[derive(Debug)]
pub(super) struct Line {
    /// What was looked for.
    name: String,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Found(String),
    Installed(String),
    Missing {
        why: String,
        cost: String,
        needed: bool,
    },
}

impl Line {
    /// It was there before; `what` is where or which version.
    pub(super) fn found(name: &str, what: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            outcome: Outcome::Found(what.into()),
        }
    }

    /// It is there now; `what` is where or which version.
    pub(super) fn installed(name: &str, what: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            outcome: Outcome::Installed(what.into()),
        }
    }

    /// It could not be had. `cost` is what does not work without it.
    pub(super) fn missing(name: &str, why: impl Into<String>, cost: impl Into<String>) -> Self {
        let (why, cost) = (why.into(), cost.into());
        Self {
            name: name.to_owned(),
            outcome: Outcome::Missing {
                why,
                cost,
                needed: false,
            },
        }
    }

    /// Marks a missing thing as one without which the purpose fails.
    pub(super) fn needed(mut self, whether: bool) -> Self {
        if let Outcome::Missing { needed, .. } = &mut self.outcome {
            *needed = whether;
        }
        self
    }

    /// Whether it could not be had.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.outcome, Outcome::Missing { .. })
    }

    /// The name, if it is missing and the purpose fails without it.
    pub(super) fn into_lacking(self) -> Option<String> {
        matches!(self.outcome, Outcome::Missing { needed: true, .. }).then_some(self.name)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.outcome {
            Outcome::Found(what) => write!(formatter, "found {name}: {what}"),
            Outcome::Installed(what) => write!(formatter, "installed {name}: {what}"),
            Outcome::Missing { why, cost, .. } => {
                write!(formatter, "could not get {name}: {why}; without it {cost}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_thing_says_why_and_what_it_costs() {
        let line = Line::missing("node", "not installed", "its test is skipped");
        let text = line.to_string();
        assert_eq!(
            text,
            "could not get node: not installed; without it its test is skipped"
        );
        assert_eq!(line.into_lacking(), None);
    }

    #[test]
    fn only_what_is_needed_and_missing_is_lacking() {
        let missing = Line::missing("ip", "no root", "nothing runs").needed(true);
        assert_eq!(missing.into_lacking().as_deref(), Some("ip"));
        assert_eq!(
            Line::found("ip", "/sbin/ip").needed(true).into_lacking(),
            None
        );
    }
}
