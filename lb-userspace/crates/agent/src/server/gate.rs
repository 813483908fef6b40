//! Who is at it: verbs that change something. An upgrade of the agent needs them gone, or only
//! waiting, and lets no other one in meanwhile.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    agent::{Fulfilled, UpgradeError},
    api::wire::Done,
};

/// Lets verbs in.
#[derive(Debug, Default)]
pub struct Gate {
    inside: Mutex<Inside>,
    /// Whoever waits here is answered: what they wait for is somebody else's now.
    outlived: watch::Sender<Outlived>,
}

/// What became of the tasks that verbs wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outlived {
    /// They go on.
    #[default]
    No,
    /// An upgrade failed when they had been given up: others of this agent do their work.
    TakenUp,
    /// This agent opened its services anew.
    Renewed,
    /// A successor is in charge.
    Replaced,
}

#[derive(Debug, Default)]
struct Inside {
    upgrading: bool,
    closed: bool,
    verbs: BTreeMap<u64, Visit>,
    last: u64,
}

#[derive(Debug)]
struct Visit {
    what: String,
    fulfilled: Fulfilled,
}

/// A verb's leave to be at it; given back when dropped.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    number: u64,
    fulfilled: Fulfilled,
    outlived: watch::Receiver<Outlived>,
}

/// The one upgrade there is at a time. The gate opens when it is dropped, unless the agent was
/// replaced.
#[derive(Debug)]
pub struct Upgrading {
    gate: Arc<Gate>,
}

impl Gate {
    /// Lets a verb in.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Upgrading`] while the services are handed over, and after that.
    pub(super) fn enter(
        self: &Arc<Self>,
        what: String,
        fulfilled: Fulfilled,
    ) -> Result<Pass, UpgradeError> {
        let mut inside = self.inside();
        if inside.closed {
            return Err(UpgradeError::Upgrading);
        }
        inside.last += 1;
        let number = inside.last;
        let visit = Visit {
            what,
            fulfilled: Arc::clone(&fulfilled),
        };
        inside.verbs.insert(number, visit);
        drop(inside);
        Ok(Pass {
            gate: Arc::clone(self),
            number,
            fulfilled,
            outlived: self.outlived.subscribe(),
        })
    }

    /// Begins an upgrade. Verbs are let in still.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Upgrading`] if there is one, [`UpgradeError::Busy`] if a verb has work to
    /// do.
    pub(crate) fn begin_upgrade(self: &Arc<Self>) -> Result<Upgrading, UpgradeError> {
        let mut inside = self.inside();
        if inside.upgrading {
            return Err(UpgradeError::Upgrading);
        }
        inside.refuse_busy()?;
        inside.upgrading = true;
        drop(inside);
        Ok(Upgrading {
            gate: Arc::clone(self),
        })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn refuse_busy(&self) -> Result<(), UpgradeError> {
        let working = |visit: &&Visit| visit.fulfilled.get().is_none();
        match self.verbs.values().find(working) {
            Some(visit) => Err(UpgradeError::Busy(visit.what.clone())),
            None => Ok(()),
        }
    }
}

impl Upgrading {
    /// Lets no verb in any more.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Busy`] if one came in meanwhile that has work to do.
    pub fn close(&self) -> Result<(), UpgradeError> {
        let mut inside = self.gate.inside();
        inside.refuse_busy()?;
        inside.closed = true;
        Ok(())
    }

    /// A successor is in charge: the gate stays closed, and who waits is answered.
    pub fn replaced(&self) {
        self.gate.outlived.send_replace(Outlived::Replaced);
    }

    /// This agent has opened its services anew, with other tasks than before: who waits is answered.
    pub fn renewed(&self) {
        self.gate.outlived.send_replace(Outlived::Renewed);
    }

    /// This agent is in charge again, with other tasks than before: who waits is answered.
    pub fn taken_up(&self) {
        self.gate.outlived.send_replace(Outlived::TakenUp);
    }
}

impl Drop for Upgrading {
    fn drop(&mut self) {
        let mut inside = self.gate.inside();
        inside.upgrading = false;
        inside.closed = *self.gate.outlived.borrow() == Outlived::Replaced;
    }
}

impl Pass {
    /// The answer of a verb that waited when a successor came in charge, or was about to; for any
    /// other verb it never comes.
    pub(super) async fn outlived(&self) -> Done {
        let mut outlived = self.outlived.clone();
        // It fails only when the sender is gone, and that one is here.
        let _changed = outlived.changed().await;
        let why = *outlived.borrow();
        let what = match why {
            Outlived::No | Outlived::TakenUp => "an upgrade of the agent failed meanwhile",
            Outlived::Renewed | Outlived::Replaced => "the agent was upgraded meanwhile",
        };
        match self.fulfilled.get() {
            Some(done) => Done {
                message: format!("{}; {what}", done.message),
                ..done.clone()
            },
            None => std::future::pending().await,
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.inside().verbs.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_waits_for_no_work_and_lets_none_in() {
        let gate = Arc::new(Gate::default());
        let fulfilled = Fulfilled::default();
        let pass = gate.enter("promote".to_owned(), Arc::clone(&fulfilled));
        let pass = pass.unwrap();
        let busy = gate.begin_upgrade().unwrap_err();
        assert!(matches!(busy, UpgradeError::Busy(what) if what == "promote"));
        fulfilled.set(Done::default()).unwrap();
        let upgrade = gate.begin_upgrade().unwrap();
        let second = gate.begin_upgrade().unwrap_err();
        assert!(matches!(second, UpgradeError::Upgrading));
        let late = gate.enter("deploy".to_owned(), Fulfilled::default());
        let late = late.unwrap();
        upgrade.close().unwrap_err();
        drop(late);
        upgrade.close().unwrap();
        gate.enter("deploy".to_owned(), Fulfilled::default())
            .unwrap_err();
        drop(upgrade);
        let again = gate.enter("deploy".to_owned(), Fulfilled::default());
        drop((again.unwrap(), pass));
        let upgrade = gate.begin_upgrade().unwrap();
        upgrade.close().unwrap();
        upgrade.replaced();
        drop(upgrade);
        gate.enter("deploy".to_owned(), Fulfilled::default())
            .unwrap_err();
    }
}
