//! Fault injection: what an agent is asked to break on purpose, for tests and game days. The operator's text is "Fault
//! injection" in `docs/operate/when-things-fail.md`.

use std::env;

/// The variable that names the faults, with commas between them.
pub const FAULTS: &str = "HOTLB_FAULTS";

/// What a fault breaks. It is seen by how the fault is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The journal: `kill@N`, `full@N`.
    Journal,
    /// A task: the name of a point.
    Task,
    /// An upgrade of the agent: `former@STEP`, `successor@STEP`.
    AgentUpgrade,
}

impl Kind {
    const fn former_variable(self) -> &'static str {
        match self {
            Self::Journal => "HOTLB_DRILL",
            Self::Task => "HOTLB_DRILL_PANIC",
            Self::AgentUpgrade => "HOTLB_DRILL_TAKEOVER",
        }
    }

    fn of(fault: &str) -> Self {
        match fault.split_once('@') {
            None => Self::Task,
            Some(("former" | "successor", _)) => Self::AgentUpgrade,
            Some(_) => Self::Journal,
        }
    }

    /// The faults of this kind that the environment names: in [`FAULTS`], and in the variable that had them alone
    /// before.
    pub fn wanted(self) -> Vec<String> {
        let value = |variable| env::var_os(variable).unwrap_or_default();
        let all = value(FAULTS);
        let former = value(self.former_variable());
        let mut wanted = named(&all.to_string_lossy());
        wanted.retain(|fault| Self::of(fault) == self);
        wanted.extend(named(&former.to_string_lossy()));
        wanted
    }
}

fn named(value: &str) -> Vec<String> {
    let faults = value.split(',').map(str::trim);
    let faults = faults.filter(|fault| !fault.is_empty());
    faults.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_of_the_kind_that_it_looks_like() {
        let faults = named(" kill@7,swap,, former@held,kil@7");
        let kinds: Vec<Kind> = faults.iter().map(|fault| Kind::of(fault)).collect();
        let expected = [
            Kind::Journal,
            Kind::Task,
            Kind::AgentUpgrade,
            // It is refused there.
            Kind::Journal,
        ];
        assert_eq!(kinds, expected);
    }
}
