//! What can happen, and what each of it may cost the clients (`docs/user/guarantees.md`).

use anyhow::{Result, ensure};

use crate::load::Outcome;

/// Clients of one load that may meet a listener as it closes.
const MET: u64 = 2;

/// One thing that happens to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Step {
    /// Another generation is deployed and promoted, or both at once.
    Upgrade,
    /// The candidate's program ends at once, or its swap hook fails.
    FailingUpgrade,
    /// The former generation gets the traffic back.
    Rollback,
    /// The active generation is stopped, clients wait, another one is promoted.
    StopParked,
    /// Every process of the active generation is killed.
    KillActive,
    /// Every process of a ready candidate is killed.
    KillCandidate,
    /// The process that holds the parking listeners is killed.
    KillKeeper,
    /// The agent is killed and started again.
    KillAgent,
    /// The agent is killed in the middle of an upgrade, and started again.
    KillAgentInRollout,
    /// The agent is replaced by another.
    UpgradeAgent,
}

impl Step {
    /// Each as often as it is to be among all.
    const LOTS: [(Self, usize); 10] = [
        (Self::Upgrade, 4),
        (Self::FailingUpgrade, 2),
        (Self::Rollback, 3),
        (Self::StopParked, 1),
        (Self::KillActive, 2),
        (Self::KillCandidate, 1),
        (Self::KillKeeper, 1),
        (Self::KillAgent, 2),
        (Self::KillAgentInRollout, 2),
        (Self::UpgradeAgent, 2),
    ];

    /// One of them, or of `only` if that names any.
    pub(super) fn any(chance: &mut fastrand::Rng, only: &[Self]) -> Self {
        let all: Vec<Self> = Self::LOTS
            .iter()
            .filter(|(step, _)| only.is_empty() || only.contains(step))
            .flat_map(|&(step, lots)| std::iter::repeat_n(step, lots))
            .collect();
        chance.choice(all).unwrap_or(Self::Upgrade)
    }
}

/// What a step may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Nothing (G1, G4, G9, G11, G17, G18, G27).
    Nothing,
    /// Each client may have had to wait once (G7), and one that keeps its connection may have sent as the stopped server closed it (G11).
    WaitingAndKept,
    /// Each client may have lost the one request the killed server had accepted, and a few of those that
    /// connect again at once meet its listener as it closes: they are reset, or send their SYN again (G6).
    Accepted,
    /// The same, and each may have had to wait for another server (G7).
    AcceptedAndWaiting,
}

impl Allowed {
    /// Compares a load before and after a step; how many requests failed. `late` is how many of those that had to
    /// wait in an earlier step may be answered in this one: a SYN is sent again after a second.
    pub(super) fn check(
        self,
        name: &str,
        before: &Outcome,
        after: &Outcome,
        clients: usize,
        late: &mut u64,
    ) -> Result<u64> {
        let clients = clients as u64;
        let failed = after.failed - before.failed;
        let slow = after.slow - before.slow;
        let (may_fail, may_wait) = match self {
            Self::Nothing => (0, 0),
            Self::WaitingAndKept if name == "kept" => (clients, clients),
            Self::WaitingAndKept => (0, clients),
            Self::Accepted => (clients + MET, MET),
            Self::AcceptedAndWaiting => (clients + MET, clients),
        };
        ensure!(
            after.refused == before.refused,
            "{name}: {} refused",
            after.refused - before.refused
        );
        ensure!(
            failed <= may_fail,
            "{name}: {failed} failed, {may_fail} allowed"
        );
        let may_wait = may_wait + *late;
        ensure!(slow <= may_wait, "{name}: {slow} slow, {may_wait} allowed");
        *late = (may_wait - slow).min(MET);
        Ok(failed)
    }
}
