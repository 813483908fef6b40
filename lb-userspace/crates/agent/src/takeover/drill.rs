//! Injected faults: an agent that kills itself at a step of the hand-over, to show that this harms nobody.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use thiserror::Error;

use crate::fault::Kind;

/// The steps of a hand-over, in order; each is reached when it has been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The agent in charge has started its successor.
    FormerStarted,
    /// The successor has checked its configuration.
    SuccessorChecked,
    /// The successor has said what it can take over.
    SuccessorGreeted,
    /// The agent in charge has compared the layouts.
    FormerCompared,
    /// The agent in charge has stopped acting.
    FormerHeld,
    /// The agent in charge has given locks and listeners away.
    FormerGave,
    /// The successor has locks and listeners.
    SuccessorReceived,
    /// The successor has opened the services.
    SuccessorOpened,
    /// The successor has said that it serves.
    SuccessorReady,
    /// The agent in charge has heard that.
    FormerHeard,
    /// The agent in charge has said farewell.
    FormerLeft,
    /// The successor has heard that.
    SuccessorAlone,
    /// The successor has brought the services to its own programs.
    SuccessorRenewed,
}

impl Step {
    /// All steps.
    pub const ALL: [Self; 13] = [
        Self::FormerStarted,
        Self::SuccessorChecked,
        Self::SuccessorGreeted,
        Self::FormerCompared,
        Self::FormerHeld,
        Self::FormerGave,
        Self::SuccessorReceived,
        Self::SuccessorOpened,
        Self::SuccessorReady,
        Self::FormerHeard,
        Self::FormerLeft,
        Self::SuccessorAlone,
        Self::SuccessorRenewed,
    ];

    /// Its name in `HOTLB_FAULTS`: who is killed, and where.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FormerStarted => "former@started",
            Self::SuccessorChecked => "successor@checked",
            Self::SuccessorGreeted => "successor@greeted",
            Self::FormerCompared => "former@compared",
            Self::FormerHeld => "former@held",
            Self::FormerGave => "former@gave",
            Self::SuccessorReceived => "successor@received",
            Self::SuccessorOpened => "successor@opened",
            Self::SuccessorReady => "successor@ready",
            Self::FormerHeard => "former@heard",
            Self::FormerLeft => "former@left",
            Self::SuccessorAlone => "successor@alone",
            Self::SuccessorRenewed => "successor@renewed",
        }
    }

    /// This step has been done: kills this process (SIGKILL) if a fault is wanted there.
    pub(crate) fn done(self) {
        let wanted = Kind::AgentUpgrade.wanted();
        if wanted.iter().any(|step| step == self.name()) {
            tracing::warn!(step = self.name(), "killing this agent: an injected fault");
            // It cannot fail for oneself, and there is nothing behind it.
            let _killed = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}

/// `HOTLB_FAULTS` names what is no step.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "HOTLB_FAULTS (or HOTLB_DRILL_TAKEOVER) names \"{}\", which is no step of an agent upgrade; expected one of {}; \
     unset it for normal operation",
    .0.escape_debug(), Step::ALL.map(Step::name).join(", ")
)]
pub struct NoStep(String);

/// Whether the environment asks for an agent upgrade to break.
///
/// # Errors
///
/// [`NoStep`].
pub fn is_wanted() -> Result<bool, NoStep> {
    check(Kind::AgentUpgrade.wanted())
}

fn check(wanted: Vec<String>) -> Result<bool, NoStep> {
    let is_any = !wanted.is_empty();
    let known = |name: &String| Step::ALL.iter().any(|step| step.name() == name);
    match wanted.into_iter().find(|name| !known(name)) {
        Some(name) => Err(NoStep(name)),
        None => Ok(is_any),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_is_none_is_refused() {
        let steps = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(check(Vec::new()), Ok(false));
        assert_eq!(check(steps(&["former@held", "successor@ready"])), Ok(true));
        let refused = check(steps(&["former@held", "former@startd"])).unwrap_err();
        assert!(refused.to_string().contains("former@startd"));
    }

    #[test]
    fn every_step_has_a_name_of_its_own() {
        for (index, step) in Step::ALL.iter().enumerate() {
            let (who, what) = step.name().split_once('@').unwrap();
            assert!(matches!(who, "former" | "successor") && !what.is_empty());
            let others = Step::ALL.iter().skip(index + 1);
            assert!(others.clone().all(|other| other.name() != step.name()));
        }
    }
}
