//! What is said of an active generation that takes nothing up, or is stopped.

use std::time::Duration;

use super::{
    super::context::Context,
    snapshot::{GenerationView, Snapshot},
};
use crate::{
    generation::{adoptee::describe, standstill::Stands},
    rollout::GenerationState,
    sys::{process, sock_diag::Protocol},
};

/// For how long the generation has taken nothing up, if it is active and hangs.
pub(super) fn hangs_for(context: &Context, seen: &GenerationView) -> Option<Duration> {
    let (stands, _) = hangs(context, seen)?;
    Some(stands.for_)
}

fn hangs(context: &Context, seen: &GenerationView) -> Option<(Stands, Protocol)> {
    let active = seen.state == GenerationState::Active;
    let after = context.config.drain.hung_after;
    active.then(|| seen.still.lasts(after)).flatten()
}

/// Of all that hang.
pub(super) fn warnings(context: &Context, snapshot: &Snapshot) -> Vec<String> {
    let can_go_back = snapshot.previous.is_some();
    let warning = |seen: &GenerationView| match hangs(context, seen) {
        Some((stands, protocol)) => Some(hung(seen, stands, protocol, can_go_back)),
        None => stopped(seen),
    };
    snapshot.generations.iter().filter_map(warning).collect()
}

fn hung(seen: &GenerationView, stands: Stands, protocol: Protocol, can_go_back: bool) -> String {
    let (waiting, seconds) = (stands.waiting, stands.for_.as_secs());
    let what = match protocol {
        Protocol::Tcp => {
            format!("it accepted no connection for {seconds}s, and {waiting} clients wait")
        }
        Protocol::Udp => format!("it read nothing for {seconds}s, and {waiting} bytes wait"),
    };
    let advice = if can_go_back {
        "run `hotlb rollback`, or end it: its clients are then handed over"
    } else {
        "upgrade to another generation, or end it: its clients then wait until there is one"
    };
    format!(
        "{} hangs: {what}{}; hotlb waits because it may recover; if it does not, {advice}",
        seen.name,
        plight(seen)
    )
}

/// Of one that is active and takes up what comes, but for its first process.
fn stopped(seen: &GenerationView) -> Option<String> {
    let is_active = seen.state == GenerationState::Active;
    let (pid, _) = seen.main.filter(|_| is_active)?;
    if !seen.processes().main_runs() || !process::is_stopped(pid) {
        return None;
    }
    Some(format!(
        "{} is stopped: {} was sent SIGSTOP, or is being traced; continue it with `kill -CONT {pid}`",
        seen.name,
        describe(pid)
    ))
}

/// What is known of its processes.
fn plight(seen: &GenerationView) -> String {
    let processes = seen.processes();
    let pids = processes.own_cgroup().map(|cgroup| cgroup.pids());
    let stopped = pids.unwrap_or_default().into_iter();
    let stopped: Vec<u32> = stopped.filter(|&pid| process::is_stopped(pid)).collect();
    if let Some(&first) = stopped.first() {
        let all = stopped.iter().map(|pid| format!(" {pid}"));
        return format!(
            " ({} is stopped: kill -CONT{})",
            describe(first),
            all.collect::<String>()
        );
    }
    match seen.main {
        Some((pid, _)) if !processes.main_runs() => match processes.pid() {
            Some(left) => format!(
                " (its first process, {pid}, has ended; {} is left)",
                describe(left)
            ),
            None => format!(" (its first process, {pid}, has ended)"),
        },
        _ => String::new(),
    }
}
