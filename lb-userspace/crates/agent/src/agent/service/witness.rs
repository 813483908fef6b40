//! "It is not there, so it is made" is asked of more than one witness: pins, ledger, cgroups and
//! keeper. Where they contradict each other, something was lost or moved, and is not made anew.

use std::{collections::BTreeMap, fs};

use lb_common::GenerationId;

use super::OpenError;
use crate::{
    agent::PinsGone,
    clock,
    config::Places,
    datapath::{ConnectionCounts, Pins, ServicePath, why_gone},
    rollout::GenerationState,
    store::{
        Journal, Ledger, Provenance, Remembered,
        journal::{HistoryFilter, JournalError, Outcome, RolloutKind},
    },
    sys::{
        cgroup::Cgroup,
        inspect::{self, Inspected},
        mounts, process,
    },
};

/// What is said of a generation that nobody wrote down.
const UNKNOWN: &str = "found running; the ledger did not know of it";

/// A generation of which there are processes.
#[derive(Clone, Debug)]
struct Living {
    id: u32,
    name: String,
    cgroup: Cgroup,
}

/// Refuses where generations live that this agent would take apart: their pins are gone, or they
/// are in another cgroup.
///
/// # Errors
///
/// [`OpenError::PinsGone`], [`OpenError::LivesElsewhere`]. Nothing was changed.
pub(super) fn refuse_lost(
    places: &Places,
    cgroup: &Cgroup,
    pins: &Pins,
    ledger: &Ledger,
) -> Result<(), OpenError> {
    refuse_elsewhere(cgroup, ledger)?;
    if pins.exist() {
        return Ok(());
    }
    let mut living: Vec<String> = living_in(cgroup)
        .into_iter()
        .map(|living| match living.cgroup.pids().first() {
            Some(pid) => format!("{} (pid {pid})", living.name),
            None => living.name,
        })
        .collect();
    let provenance = remembered_living(ledger).filter(|(it, _)| it.provenance.cgroup.is_some());
    living.extend(provenance.map(|(it, process)| format!("{} (pid {})", it.name, process.pid)));
    if living.is_empty() {
        return Ok(());
    }
    let advice = match mounts::hidden_at(&places.bpffs) {
        Some(at) => format!("umount {}", at.display()),
        None => "if HOTLB_BPFFS_DIR or its mount was changed, change it back".to_owned(),
    };
    Err(OpenError::PinsGone(Box::new(PinsGone {
        dir: places.bpffs.clone(),
        why: why_gone(&places.bpffs),
        living: living.join(", "),
        advice,
        cgroup: cgroup.path().to_owned(),
    })))
}

/// A process that this boot's ledger knows lives below another cgroup of the same names: the agent
/// before had another root.
fn refuse_elsewhere(cgroup: &Cgroup, ledger: &Ledger) -> Result<(), OpenError> {
    let service = cgroup.path().file_name();
    for (remembered, process) in remembered_living(ledger) {
        let leaf = format!("{}-{}", remembered.id, remembered.name);
        let found = process.cgroup_dir().ok().flatten();
        let Some(found) = found.filter(|found| {
            let above = found.path().parent();
            found.path().file_name().is_some_and(|name| *name == *leaf)
                && above.and_then(|above| above.file_name()) == service
                && above != Some(cgroup.path())
        }) else {
            continue;
        };
        return Err(OpenError::LivesElsewhere {
            living: format!(
                "generation {} (pid {}) lives in {}",
                remembered.name,
                process.pid,
                found.path().display()
            ),
            cgroup: cgroup.path().to_owned(),
        });
    }
    Ok(())
}

/// Live generations of the ledger whose first process lives.
fn remembered_living(ledger: &Ledger) -> impl Iterator<Item = (&Remembered, Inspected)> {
    let same_boot = ledger.boot == process::boot_id();
    let live = ledger.generations.iter().filter(|g| g.state.is_live());
    live.filter(move |_| same_boot).filter_map(|remembered| {
        let (pid, started) = remembered.main?;
        let process = inspect::inspect(pid).ok().flatten()?;
        (process.started == started).then_some((remembered, process))
    })
}

/// The generations that have processes in cgroups of the service's own.
fn living_in(cgroup: &Cgroup) -> Vec<Living> {
    let Ok(entries) = fs::read_dir(cgroup.path()) else {
        return Vec::new();
    };
    let named = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let (id, generation) = name.split_once('-')?;
        Some(Living {
            id: id.parse().ok()?,
            name: generation.to_owned(),
            cgroup: cgroup.child(&name),
        })
    });
    let mut living: Vec<Living> = named
        .filter(|living| living.cgroup.is_populated())
        .collect();
    living.sort_by_key(|living| living.id);
    living
}

/// Generations that live and that the ledger does not know: it was removed, set aside, or is that
/// of another state directory. What can be known of them is in the kernel.
pub(super) fn unknown(cgroup: &Cgroup, ledger: &Ledger, pins: &Pins) -> Vec<Remembered> {
    let same_boot = ledger.boot == process::boot_id();
    let known = |id| same_boot && ledger.generations.iter().any(|g| g.id == id);
    let active = ServicePath::active_of(pins);
    living_in(cgroup)
        .into_iter()
        .filter(|living| !known(living.id))
        .filter_map(|living| describe(living, active))
        .collect()
}

/// Who was active before the last promote is written down twice. Whoever is not known to have been is
/// not led to: it proves that it serves, as any candidate does, and an operator may promote it.
pub(super) async fn ask_journal(found: &mut [Remembered], journal: &Journal, service: &str) {
    let active = found.iter().find(|it| it.state == GenerationState::Active);
    let active = active.map(|it| (it.id, it.name.clone()));
    let before = match active {
        Some(active) if found.len() > 1 => before(journal, service, &active).await,
        _ => return,
    };
    let before = before.unwrap_or_else(|error| {
        tracing::warn!(
            service,
            %error,
            "failed to find the previously active generation in the journal"
        );
        None
    });
    let mut found = found.iter_mut();
    if let Some(found) = found.find(|it| before.as_ref() == Some(&(it.id, it.name.clone()))) {
        found.state = GenerationState::Standby;
        found.reason = Some(UNKNOWN.to_owned());
    }
}

/// Id and name of a generation: the id alone may have been given twice when all was lost.
type Identity = (u32, String);

/// Who was active before the promote by which `active` became so, in this boot.
async fn before(
    journal: &Journal,
    service: &str,
    active: &Identity,
) -> Result<Option<Identity>, JournalError> {
    let filter = HistoryFilter {
        service: Some(service.to_owned()),
        limit: None,
    };
    let rollouts = journal.history(filter).await?.into_iter();
    let newest = rollouts
        // One that drains has moved the word too.
        .filter(|rollout| matches!(rollout.outcome, None | Some(Outcome::Done)))
        .max_by_key(|rollout| rollout.id);
    let Some(newest) = newest.filter(|rollout| {
        rollout.kind != RolloutKind::Rollback
            && (rollout.to.id, &rollout.to.name) == (active.0, &active.1)
    }) else {
        return Ok(None);
    };
    let told = journal.show(newest.id).await?;
    let same_boot = told.is_some_and(|told| told.boot == process::boot_id());
    let before = newest.from.filter(|_| same_boot);
    Ok(before.map(|before| (before.id, before.name)))
}

fn describe(living: Living, active: Option<GenerationId>) -> Option<Remembered> {
    let processes = living.cgroup.pids().into_iter();
    let all = processes.filter_map(|pid| inspect::inspect(pid).ok().flatten());
    let first = all.min_by_key(|process| (process.started, process.pid))?;
    let id = GenerationId::new(living.id)?;
    let (state, reason) = if active == Some(id) {
        (GenerationState::Active, UNKNOWN.to_owned())
    } else {
        let reason = format!("{UNKNOWN}, and nothing says that it was ever active");
        (GenerationState::Starting, reason)
    };
    tracing::error!(
        generation = living.name,
        pid = first.pid,
        state = state.name(),
        "found a running generation that is not in the ledger; adding it"
    );
    Some(Remembered {
        id: living.id,
        name: living.name,
        state,
        cwd: first.cwd.clone(),
        roots: None,
        env: environment(first.pid),
        main: Some((first.pid, first.started)),
        command: first.command,
        reason: Some(reason),
        since: clock::since_boot().as_secs(),
        counted: ConnectionCounts::default(),
        was_ready: true,
        keep: None,
        unseated: false,
        failed: None,
        provenance: Provenance::default(),
        drain_since: None,
        signalled: None,
        signalled_whom: Vec::new(),
        signalled_again: None,
        signal_cut: None,
        unseen_ends: 0,
        cut_list: Vec::new(),
    })
}

/// What a process was started with, without what an agent adds.
fn environment(pid: u32) -> BTreeMap<String, String> {
    let whole = inspect::environment(pid).unwrap_or_default();
    let added = |name: &str| {
        name.starts_with("HOTLB_") || name.starts_with("LISTEN_") || name == "NOTIFY_SOCKET"
    };
    whole.into_iter().filter(|(name, _)| !added(name)).collect()
}

/// Enters them into the ledger.
pub(super) fn remember(ledger: &mut Ledger, found: Vec<Remembered>) {
    if found.is_empty() {
        return;
    }
    let greatest = found.iter().map(|found| found.id).max();
    let before = found.iter().filter(|g| g.state == GenerationState::Standby);
    ledger.previous = ledger.previous.or(before.map(|before| before.id).max());
    ledger.boot = process::boot_id();
    ledger.last_id = ledger.last_id.max(greatest.unwrap_or_default());
    ledger.generations.extend(found);
}
