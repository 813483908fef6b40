//! One service: its generations, its parking listeners, its part of the kernel.
//!
//! [`Service`] is shared by the API's requests and by the watch task; everything that changes
//! stands in [`Books`], behind one lock that is held for moments only, never while waiting for a
//! server or a connection. The one exception to "books first" is the steering word: it lives in
//! the kernel, and whoever holds the lock may store it.

mod adopt;
mod again;
mod books;
mod broken;
mod caller;
mod candidate;
mod claim;
mod custody;
mod datagrams;
mod deploy;
mod drain;
mod ending;
mod exec;
mod exec_check;
mod find;
mod flows;
mod freeze;
mod guard;
mod held;
mod hung;
mod in_flight;
mod incidents;
mod kept_profiles;
mod network;
mod observe;
mod open;
mod outlet;
mod outside;
mod parking;
mod parks;
mod polite;
mod preflight;
mod profile;
mod programs;
mod recount;
mod reload;
mod report;
mod rollout;
mod slots;
mod status;
mod steering;
mod stop;
mod switch;
mod totals;
mod traced;
mod wake;
mod watch;
mod witness;
mod workers;

use std::{
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use tokio::sync::{Mutex, Notify, watch as channel};

pub use caller::Caller;
pub(super) use custody::Held;
pub use report::{Fulfilled, Reporter};

use books::{Books, Going};
use ending::Endings;
use incidents::Incidents;
use parking::Parking;
use polite::Politeness;
use status::ledger_warning;

use super::error::{AdoptError, CheckError, NotSharing, Now, OpenError, VerbError};
use crate::{
    clock::Deadline,
    config::{Places, ServiceConfig},
    datapath::ServicePath,
    store::{Journal, LedgerFile},
    sys::{cgroup::Cgroup, netns::Netns},
};

/// A service.
#[derive(Debug)]
pub struct Service {
    config: ServiceConfig,
    places: Places,
    cgroup: Cgroup,
    /// Where its sockets are.
    netns: Netns,
    parking: Parking,
    path: ServicePath,
    /// Why a former agent's programs could not be replaced, if that was tried.
    not_renewed: OnceLock<String>,
    /// Why it is not measured how long clients wait, although it should be.
    unmeasured: Option<String>,
    /// Why clients that are refused are not counted.
    uncounted: Option<String>,
    /// What rollouts are about to do.
    journal: Journal,
    /// What the next agent is to know.
    ledger: LedgerFile,
    books: Arc<Mutex<Books>>,
    /// Who was asked to leave. Held while connections are touched without the books. Taken before
    /// the books, never after.
    politeness: Arc<Mutex<Politeness>>,
    /// True while nobody may look after it; `look_after` waits for it and ends.
    halted: channel::Sender<bool>,
    /// Held while a profile is made: there is one at a time.
    profiling: Mutex<()>,
    /// Profiles that are kept.
    kept: kept_profiles::Desk,
    /// What is known of its windows.
    incidents: Incidents,
    /// Who of its generations serves.
    endings: Endings,
    /// Whether any listener of it takes clients of other addresses.
    transparent: AtomicBool,
    /// Rung at every change of the books and every event from the kernel; whoever waits for
    /// something looks again.
    changed: Notify,
}

impl Service {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its configuration.
    pub fn config(&self) -> &ServiceConfig {
        &self.config
    }

    /// Where its rollouts are written down.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Has the books written down, soon, and wakes everybody who waits for a change.
    fn settle(&self, books: &Books) {
        if books.going == Going::Gone {
            return;
        }
        self.ledger.write(books.to_ledger());
        self.changed.notify_waiters();
    }

    /// Waits until the next agent would know of all that was done. What is to be said if it would not.
    pub async fn unrecorded(&self) -> Option<String> {
        let error = self.ledger.written().await?;
        Some(ledger_warning(&error))
    }

    /// Waits for a reason to look again: a change of the books, an event from the kernel, or the
    /// pace. False once the deadline is over.
    async fn look_again(&self, pace: &mut Pace) -> bool {
        let Some(left) = pace.deadline.left() else {
            return false;
        };
        let look = left.min(pace.next);
        pace.next = (pace.next * 5 / 4).min(SLOWEST);
        // Either way it is time to look again.
        let _woken = tokio::time::timeout(look, self.changed.notified()).await;
        true
    }
}

/// When somebody who waits looks for what changes without an event: soon at first, then less
/// often, until a deadline.
#[derive(Debug)]
struct Pace {
    deadline: Deadline,
    next: Duration,
}

const FASTEST: Duration = Duration::from_micros(250);
const SLOWEST: Duration = Duration::from_millis(20);

impl Pace {
    fn until(deadline: Deadline) -> Self {
        Self {
            deadline,
            next: FASTEST,
        }
    }
}
