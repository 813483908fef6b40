//! What is not as it should be with a service.

use lb_common::Exit;

use super::{
    super::{context::Context, ending, flows, programs},
    hung,
    snapshot::{GenerationView, Snapshot},
    steering,
};
use crate::{api::wire::ProgramStatus, datapath::own_object, rollout::GenerationState};

/// All of it, the most urgent first. `waiting` is what there is to say of a service that waits for a server
/// to adopt.
pub(super) fn all(context: &Context, snapshot: &Snapshot, waiting: String) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(nobody_serves(context, snapshot, waiting));
    for seen in &snapshot.generations {
        warnings.extend(of_listeners(seen));
        warnings.extend(of_processes(seen));
    }
    warnings.extend(hung::warnings(context, snapshot));
    warnings.extend(ending::cut_warnings(
        &context.config.drain,
        &snapshot.habits,
        |generation| snapshot.knows(generation),
    ));
    warnings.extend(flows::warnings(context));
    warnings.extend(of_programs(&snapshot.programs));
    warnings.extend(snapshot.foreign_programs.warnings());
    warnings.extend(snapshot.strays.warnings());
    warnings.extend(of_measures(context, snapshot));
    if let Some(error) = &snapshot.keeper_error {
        warnings.push(format!(
            "no keeper holds the parking listeners: {error}; clients are refused while no \
             generation listens"
        ));
    }
    warnings.extend(snapshot.ledger_error.as_deref().map(of_ledger));
    warnings
}

/// Of clients who wait.
fn nobody_serves(context: &Context, snapshot: &Snapshot, waiting: String) -> Option<String> {
    if snapshot.awaits_adopt {
        return Some(waiting);
    }
    if snapshot.word.active.is_some() {
        return snapshot.parked_warning.clone();
    }
    Some(if context.config.listen.is_empty() {
        "no generation is active: datagrams are refused; deploy and promote one".to_owned()
    } else {
        format!(
            "no generation is active: clients wait ({} now); deploy and promote one",
            snapshot.parked
        )
    })
}

fn of_listeners(seen: &GenerationView) -> Vec<String> {
    let name = &seen.name;
    let mut warnings = Vec::new();
    if seen.unsteered > 0 {
        warnings.push(format!(
            "{} listeners of {name} have no slot and get no connection",
            seen.unsteered
        ));
    }
    if let (hung @ 1.., queue) = seen.progress.hung() {
        warnings.push(format!(
            "{hung} of {name}'s {0} listeners have stopped accepting: {queue} clients wait \
             there, and other listeners get the new connections until they accept again; \
             if a worker is stuck, end that process",
            hung + seen.steered.len(),
        ));
    }
    if seen.unseen_ends > 0 {
        warnings.push(format!(
            "the ends of {} connections of {name} were not counted: another sock_ops program, \
             attached to a parent cgroup, takes the callback away; it must add to \
             bpf_sock_ops_cb_flags instead of setting it",
            seen.unseen_ends
        ));
    }
    warnings
}

fn of_processes(seen: &GenerationView) -> Vec<String> {
    let name = &seen.name;
    let mut warnings = Vec::new();
    if let Some(why) = &seen.not_frozen {
        warnings.push(format!("{name} {why}; it stays on standby, unfrozen"));
    }
    if seen.lost_its_first() {
        warnings.push(format!(
            "the first process of {name} has ended, but others still serve: hotlb cannot end \
             them, because its supervisor may start another server there; promote another \
             generation, or start this one again"
        ));
    }
    if seen.state == GenerationState::Failed && seen.was_ready {
        let reason = seen.reason.as_deref().unwrap_or("it ended");
        warnings.push(format!("{name} failed: {reason}"));
    }
    warnings
}

fn of_programs(programs: &ProgramStatus) -> Option<String> {
    let reason = programs.reason.as_ref()?;
    let whose = match &programs.object {
        Some(object) => format!("of object {object}"),
        None => "of another release".to_owned(),
    };
    Some(format!(
        "the kernel programs are {whose}, not this agent's ({}): {reason}; clients are \
         steered, but this release's fixes to the kernel programs are not in force here; see \
         `hotlb doctor`, and restart the agent to try again",
        programs::digits(own_object())
    ))
}

/// What is not done, or not measured, though it should be.
fn of_measures(context: &Context, snapshot: &Snapshot) -> Vec<String> {
    let mut warnings = Vec::new();
    let unselected = context
        .path
        .steering_counts()
        .exits(Exit::Unselected, false);
    if unselected > 0 {
        warnings.push(format!(
            "{unselected} connections were placed by the kernel's own hash: steering was not \
             in effect"
        ));
    }
    if let Some(reason) = &context.unmeasured {
        warnings.push(format!("latency is not measured: {reason}"));
    }
    if let Some(reason) = &context.uncounted {
        warnings.push(format!("refused clients are not counted: {reason}"));
    }
    let profiles = snapshot.profiles.as_ref();
    if let Some(reason) = profiles.and_then(|kept| kept.stopped.as_ref()) {
        warnings.push(format!("profiles are not kept: {reason}"));
    }
    if let Some(reason) = steering::impolite(context) {
        warnings.push(format!(
            "clients are not asked to leave a draining generation: {reason}"
        ));
    }
    warnings
}

/// What a ledger means that cannot be written.
pub(in crate::agent::service) fn of_ledger(error: &str) -> String {
    format!(
        "the ledger cannot be written: {error}; an agent that starts now would not know about \
         later changes: its disk must respond, be writable, and have space"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lb_common::GenerationId;

    use super::*;
    use crate::{
        agent::service::registry::Generation, datapath::ConnectionCounts, sys::cgroup::Cgroup,
    };

    fn seen(change: impl FnOnce(&mut Generation)) -> GenerationView {
        let id = GenerationId::new(1).unwrap();
        let mut generation = Generation::begin(id, "a".to_owned(), Cgroup::at("/none".into()));
        change(&mut generation);
        GenerationView::of(&generation, ConnectionCounts::default(), None)
    }

    #[test]
    fn a_failure_is_said_of_those_that_have_been_ready() {
        let failed = |was_ready| {
            seen(|generation| {
                if was_ready {
                    generation.become_ready();
                }
                let why = "it exited with 1".to_owned();
                generation.enter(GenerationState::Failed, Some(why));
            })
        };
        assert_eq!(
            of_processes(&failed(true)),
            ["a failed: it exited with 1".to_owned()]
        );
        assert!(of_processes(&failed(false)).is_empty());
    }

    #[test]
    fn what_is_wrong_with_listeners_is_said_of_each_generation() {
        let warnings = of_listeners(&seen(|generation| {
            generation.slots_mut().give(BTreeMap::new(), 2);
            for _look in 0..2 {
                generation.counts_mut().compare(7, 7);
            }
        }));
        let [slots, ends] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        assert!(
            slots.starts_with("2 listeners of a have no slot"),
            "{slots}"
        );
        assert!(ends.starts_with("the ends of 7 connections of a"), "{ends}");
        assert!(of_listeners(&seen(|_| {})).is_empty());
    }

    #[test]
    fn programs_of_this_agent_need_no_warning() {
        assert_eq!(of_programs(&ProgramStatus::default()), None);
        let former = of_programs(&ProgramStatus {
            reason: Some("why".to_owned()),
            ..ProgramStatus::default()
        });
        assert!(
            former.is_some_and(|text| text.contains("of another release") && text.contains("why"))
        );
    }
}
