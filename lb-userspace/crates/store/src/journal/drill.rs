//! Injected faults: the journal breaks on purpose, for game days and for tests of every crash there is.
//!
//! `HOTLB_FAULTS` says which one; `docs/operate/when-things-fail.md`, "Fault injection", is the operator's text.

use std::{fmt, num::NonZeroU64, str::FromStr};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use thiserror::Error;

use crate::fault::Kind;

/// What is to break. Writes are counted from 1, in the life of this process: each begin, record
/// and finish of a rollout, and of a migration the copy that is kept and the migration itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// `kill@N`: the process gets SIGKILL when its N-th write has become durable, before anybody
    /// learns of that.
    Kill {
        /// N.
        after: NonZeroU64,
    },
    /// `full@N`, `full@N+M`: M writes (all, without it) fail from the N-th on, as on a full disk.
    Full {
        /// N.
        from: NonZeroU64,
        /// M.
        count: Option<NonZeroU64>,
    },
}

/// `HOTLB_FAULTS` is not understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "HOTLB_FAULTS (or HOTLB_DRILL) names \"{}\", which is no fault of the journal; expected one of \
     kill@N, full@N or full@N+M, where N and M are 1 or more; unset it for normal operation",
    .0.escape_debug()
)]
pub struct DrillError(String);

impl Drill {
    /// The fault the environment asks for, if any.
    pub fn from_env() -> Result<Option<Self>, DrillError> {
        match Kind::Journal.wanted().as_slice() {
            [] => Ok(None),
            [one] => one.parse().map(Some),
            several => Err(DrillError(several.join(","))),
        }
    }
}

impl FromStr for Drill {
    type Err = DrillError;

    fn from_str(text: &str) -> Result<Self, DrillError> {
        let parsed = match text.split_once('@') {
            Some(("kill", after)) => number(after).map(|after| Self::Kill { after }),
            Some(("full", numbers)) => full(numbers),
            _ => None,
        };
        parsed.ok_or_else(|| DrillError(text.to_owned()))
    }
}

fn full(numbers: &str) -> Option<Drill> {
    let (from, count) = match numbers.split_once('+') {
        Some((from, count)) => (from, Some(number(count)?)),
        None => (numbers, None),
    };
    let from = number(from)?;
    Some(Drill::Full { from, count })
}

fn number(text: &str) -> Option<NonZeroU64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

impl fmt::Display for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { after } => {
                write!(f, "SIGKILL after journal write {after} of this process")
            }
            Self::Full { from, count: None } => {
                write!(f, "a full disk from journal write {from} on")
            }
            Self::Full {
                from,
                count: Some(count),
            } => write!(
                f,
                "a full disk for {count} journal writes from number {from} on"
            ),
        }
    }
}

/// A drill under way.
#[derive(Debug)]
pub(super) struct Drilling {
    drill: Option<Drill>,
    begun: u64,
    durable: u64,
}

impl Drilling {
    pub(super) fn new(drill: Option<Drill>) -> Self {
        Self {
            drill,
            begun: 0,
            durable: 0,
        }
    }

    /// Counts a write that is about to be done; true if it is to fail for want of space.
    pub(super) fn begins(&mut self) -> bool {
        self.begun += 1;
        self.fails(self.begun)
    }

    /// Whether a write that is not counted would fail now.
    pub(super) fn would_fail(&self) -> bool {
        self.fails(self.begun + 1)
    }

    fn fails(&self, number: u64) -> bool {
        let Some(Drill::Full { from, count }) = self.drill else {
            return false;
        };
        let begun = number >= from.get();
        begun && count.is_none_or(|count| number - from.get() < count.get())
    }

    /// A counted write has become durable. Does not return if that was the last one.
    pub(super) fn became_durable(&mut self) {
        self.durable += 1;
        if let Some(Drill::Kill { after }) = self.drill
            && after.get() == self.durable
        {
            // Nothing runs on in this process when the call returns.
            if let Err(error) = kill(Pid::this(), Signal::SIGKILL) {
                tracing::error!(%error, "failed to kill the agent, as an injected fault asks");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_drills_and_refuses_everything_else() {
        let n = |n| NonZeroU64::new(n).unwrap();
        assert_eq!("kill@7".parse(), Ok(Drill::Kill { after: n(7) }));
        let full = |from, count: Option<u64>| Drill::Full {
            from: n(from),
            count: count.map(n),
        };
        assert_eq!("full@3".parse(), Ok(full(3, None)));
        assert_eq!("full@3+2".parse(), Ok(full(3, Some(2))));
        for text in [
            "kill", "kill@", "kill@0", "kill@-1", "kill@+1", "kill@1+1", "full@1+", "full@1+0",
            "full@+1", "Kill@1", "hang@1", "kill@1 ", "@",
        ] {
            let error = text.parse::<Drill>().unwrap_err().to_string();
            assert!(error.contains("kill@N"), "{text}: {error}");
        }
    }

    #[test]
    fn a_disk_is_full_for_as_long_as_it_was_told() {
        let failed = |drill: &str| {
            let mut drilling = Drilling::new(Some(drill.parse().unwrap()));
            (1..=6)
                .filter(|_| {
                    let foreseen = drilling.would_fail();
                    let fails = drilling.begins();
                    assert_eq!(fails, foreseen);
                    fails
                })
                .count()
        };
        assert_eq!(failed("full@1"), 6);
        assert_eq!(failed("full@6"), 1);
        assert_eq!(failed("full@2+3"), 3);
        assert_eq!(failed("kill@7"), 0);
    }
}
