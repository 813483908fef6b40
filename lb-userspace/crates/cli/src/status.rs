//! The table of `hotlb status`.

use std::{fmt::Write as _, time::Duration};

use comfy_table::CellAlignment;
use hotlb_api::wire::{
    DatagramStatus, DrainStatus, GenerationStatus, IncidentSummary, RolloutStatus, ServiceStatus,
    Status,
};
use hotlb_core::config::FlowMode;
use hotlb_sys::reader::printable;

use super::{
    history::words::{one_line, when},
    table::{cut, lines, plain},
};

/// The status for people.
pub(super) fn table(status: &Status, now_ms: i64) -> String {
    let mut text: String = status
        .warnings
        .iter()
        .map(|warning| format!("! {warning}\n"))
        .collect::<Vec<_>>()
        .concat();
    for service in &status.services {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{}", service_table(service, now_ms));
        text.push('\n');
    }
    text
}

fn service_table(service: &ServiceStatus, now_ms: i64) -> String {
    let udp = service.udp.iter().flat_map(|udp| &udp.listen);
    let udp = udp.map(|address| format!("udp://{address}"));
    let tcp = service.listen.iter().map(ToString::to_string);
    let listen: Vec<String> = tcp.chain(udp).collect();
    let mut text = format!("{}  on {}", service.name, listen.join(", "));
    if let Some(netns) = &service.netns {
        let _infallible = write!(text, "  in {}", netns.display());
    }
    let active = service.active.as_deref().unwrap_or("none");
    let _infallible = write!(text, "  active: {active}");
    if let Some(previous) = &service.previous {
        let _infallible = write!(text, "  rollback to: {previous}");
        if let Some(change) = &service.previous_change {
            let _infallible = write!(text, " ({change})");
        }
    }
    if service.parked > 0 {
        let _infallible = write!(text, "  parked: {}", service.parked);
    }
    if !service.workers.is_hash() {
        let _infallible = write!(text, "  workers: {}", service.workers.now);
    }
    text.push('\n');
    if let Some(kept) = service.profiles.as_ref().filter(|kept| kept.runs) {
        let _infallible = writeln!(
            text,
            "  continuous profiling: {} Hz, kept for {}; {} samples, {} ms of CPU time, {} MB now",
            kept.frequency,
            humantime::format_duration(Duration::from_millis(kept.keep_ms)),
            kept.samples,
            kept.cpu_ms,
            kept.memory_bytes >> 20
        );
    }
    if let Some(udp) = &service.udp {
        let _infallible = writeln!(text, "  {}", flow_line(service, udp));
    }
    for warning in &service.warnings {
        let _infallible = writeln!(text, "  ! {warning}");
    }
    if let Some(rollout) = &service.rollout {
        let _infallible = writeln!(text, "  {}", rollout_line(rollout));
    }
    if let Some(incident) = &service.incident {
        let _infallible = writeln!(text, "  {}", incident_line(incident, now_ms));
    }
    if service.generations.is_empty() {
        text.push_str("  no generations yet; start one with `hotlb deploy -- COMMAND`\n");
        return text;
    }
    let mut table = plain([
        "GENERATION",
        "STATE",
        "FOR",
        "PID",
        "LIVE",
        "OPENED",
        "CLOSED",
        "LOST",
        "QUEUE",
        "COMMAND",
    ]);
    for generation in service.generations.iter().rev() {
        table.add_row(row(generation));
    }
    for column in 3..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    text.push_str(&lines(&table, " "));
    for generation in service.generations.iter().rev() {
        if let Some(reason) = &generation.reason {
            let state = generation.state.name();
            let _infallible = writeln!(text, "  {} {state}: {reason}", generation.name);
        }
        if let Some(drain) = &generation.drain {
            let name = &generation.name;
            let _infallible = writeln!(text, "  {name} {}", drain_line(drain));
        }
    }
    text
}

fn row(generation: &GenerationStatus) -> Vec<String> {
    let counts = generation.connections;
    // What waits in a UDP socket is counted in bytes.
    let listeners = generation.listeners.iter();
    let connections = listeners.filter(|l| l.protocol == "tcp");
    let queue: u32 = connections.map(|l| l.queue).sum();
    vec![
        generation.name.clone(),
        if generation.frozen {
            format!("{} (frozen)", generation.state.name())
        } else {
            generation.state.name().to_owned()
        },
        age(generation.for_seconds),
        generation
            .pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        counts.live.to_string(),
        (counts.opened + counts.moved_in).to_string(),
        (counts.closed + counts.moved_out).to_string(),
        counts.lost.sum().to_string(),
        queue.to_string(),
        shorten(&generation.command.join(" ")),
    ]
}

/// "7 flows: 5 with gen2, 2 with gen1".
fn flow_line(service: &ServiceStatus, udp: &DatagramStatus) -> String {
    if udp.flow == FlowMode::None {
        return format!("udp: {} datagrams, no flow table", udp.calls);
    }
    let with: Vec<String> = service
        .generations
        .iter()
        .rev()
        .filter_map(|g| Some((g, g.flows.filter(|&flows| flows > 0)?)))
        .map(|(g, flows)| format!("{flows} with {}", g.name))
        .collect();
    let with = if with.is_empty() {
        String::new()
    } else {
        format!(": {}", with.join(", "))
    };
    format!("{} flows{with}", udp.flows)
}

/// "r7 upgrade gen1 -> gen2: bake, 24s left".
fn rollout_line(rollout: &RolloutStatus) -> String {
    let id = rollout.id.as_deref().unwrap_or("a rollout");
    let from = rollout.from.as_deref().unwrap_or("none");
    let to = rollout.to.as_deref().unwrap_or("?");
    let phase = rollout.phase.name();
    let left = rollout
        .bake_left_ms
        .map(|left| format!(", {} left", age(left / 1000)))
        .unwrap_or_default();
    format!("{id} {} {from} -> {to}: {phase}{left}", rollout.kind)
}

/// "incident i7 of gen2, 40s ago: service time p90 41 ms, usually 3.0 ms (hotlb incidents show i7)".
fn incident_line(incident: &IncidentSummary, now_ms: i64) -> String {
    let (id, generation) = (incident.id, printable(&incident.generation));
    let when = when(incident.at_ms, now_ms);
    let reason = one_line(&incident.reason);
    format!("incident {id} of {generation}, {when}: {reason} (hotlb incidents show {id})")
}

/// "is draining (leaving): 12 of 64 left after 3s, expected to end in 2s, deadline in 27s".
fn drain_line(drain: &DrainStatus) -> String {
    let seconds = |ms: u64| age(ms.div_ceil(1000));
    let expected = drain
        .predicted_ms
        .map(|ms| format!(", expected to end in {}", seconds(ms)))
        .unwrap_or_default();
    format!(
        "is draining ({}): {} of {} left after {}{expected}, deadline in {}",
        drain.step,
        drain.left,
        drain.initially,
        age(drain.elapsed_ms / 1000),
        seconds(drain.deadline_in_ms)
    )
}

/// The two greatest units: "3h 12m", not "3h 12m 7s".
fn age(seconds: u64) -> String {
    let whole = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn shorten(command: &str) -> String {
    const WIDTH: usize = 48;
    let clean: String = command.chars().filter(|c| !c.is_control()).collect();
    cut(clean, WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_commands_stay_short() {
        assert_eq!(age(0), "0s");
        assert_eq!(age(3 * 3600 + 12 * 60 + 7), "3h 12m");
        assert_eq!(shorten("a\u{1b}[31mb"), "a[31mb");
        assert_eq!(shorten(&"x".repeat(100)).chars().count(), 48);
    }
}
