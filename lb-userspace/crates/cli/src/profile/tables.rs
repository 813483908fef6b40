//! A profile on the terminal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use comfy_table::{CellAlignment, Table};
use hotlb_api::wire::{Frame, Measure, Profile, Sampled};
use hotlb_sys::reader::printable;

use super::{
    super::table::{cut, lines, plain},
    diff::{Change, Diff},
};

/// Rows of a table; the files have all.
const ROWS: usize = 20;
/// Characters of a function's name.
const WIDTH: usize = 60;

/// The profile in full: what was sampled, and the functions that matter most.
pub(crate) fn show(profile: &Profile) -> String {
    let mut text = summary(profile);
    text.push_str("\n\n");
    match profile.generations.as_slice() {
        [before, after] => difference(profile, before, after, &mut text),
        all => all
            .iter()
            .for_each(|sampled| functions(profile, sampled, &mut text)),
    }
    text
}

/// What was sampled, how, and what is missing.
pub(super) fn summary(profile: &Profile) -> String {
    let mut lines = Vec::new();
    let seconds = Duration::from_millis(profile.took_ms).as_secs_f64();
    for sampled in &profile.generations {
        let expected = sampled
            .expected
            .map_or_else(String::new, |expected| format!(" of {expected} expected"));
        lines.push(format!(
            "{}: {} samples{expected} in {seconds:.1} s at {} Hz, {} truncated, {} lost",
            printable(&sampled.generation),
            sampled.samples,
            profile.frequency,
            sampled.truncated,
            sampled.lost
        ));
    }
    if profile.measure == Measure::Waiting {
        lines.push(
            "each sample is a thread that was off-CPU: waiting, or [runnable] without a CPU"
                .to_owned(),
        );
    }
    lines.push(format!(
        "sampled by {}, callers by {}; cost: {} ms of CPU time, {} ms more for names, {} MB",
        match profile.scope {
            hotlb_sys::perf::Scope::Filtered => "cgroup, checked at each sample",
            hotlb_sys::perf::Scope::Cgroup => "cgroup",
            hotlb_sys::perf::Scope::Host => "process, on the whole host",
        },
        profile.unwind.name(),
        profile.own_cpu_ms,
        profile.names_cpu_ms,
        profile.own_memory_bytes >> 20
    ));
    lines.extend(
        profile
            .notes
            .iter()
            .map(|note| format!("note: {}", printable(note))),
    );
    lines.join("\n")
}

/// A function's samples: in it itself, and in all it calls.
#[derive(Clone, Copy, Default)]
struct Counts {
    own: u64,
    all: u64,
}

fn function(frame: &Frame) -> (&str, &str) {
    let module = frame.module.as_deref().unwrap_or_default();
    (&frame.name, module)
}

fn functions(profile: &Profile, sampled: &Sampled, text: &mut String) {
    let mut counts: BTreeMap<(&str, &str), Counts> = BTreeMap::new();
    for stack in &sampled.stacks {
        if let Some(leaf) = profile.frames_of(stack).last() {
            counts.entry(function(leaf)).or_default().own += stack.count;
        }
        // One that calls itself counts once.
        let once: BTreeSet<_> = profile.frames_of(stack).map(function).collect();
        for function in once {
            counts.entry(function).or_default().all += stack.count;
        }
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by_key(|(_, counts)| std::cmp::Reverse((counts.own, counts.all)));
    let mut table = table(["SELF", "SELF %", "TOTAL %", "FUNCTION", "MODULE"], 3);
    for ((name, module), counts) in rows.iter().take(ROWS) {
        let module = module.rsplit('/').next().unwrap_or_default();
        table.add_row([
            counts.own.to_string(),
            percent(counts.own, sampled.samples),
            percent(counts.all, sampled.samples),
            short(name),
            printable(module),
        ]);
    }
    print(&table, rows.len(), text);
}

fn difference(profile: &Profile, before: &Sampled, after: &Sampled, text: &mut String) {
    let diff = Diff::of(profile, before, after);
    let _infallible = writeln!(
        text,
        "CPU time {}: {} uses {:.2} times as much as {}\n",
        diff.unit.name(),
        printable(&after.generation),
        diff.total,
        printable(&before.generation)
    );
    let significant = diff
        .changes
        .iter()
        .filter(|change| change.significant)
        .count();
    if significant == 0 {
        text.push_str("no function changed significantly\n\n");
    }
    let header = ["BEFORE %", "AFTER %", "CHANGE", "SIGNIFICANT", "FUNCTION"];
    let mut table = table(header, 3);
    for change in diff.changes.iter().take(ROWS) {
        table.add_row(row(change, before, after, diff.scale));
    }
    print(&table, diff.changes.len(), text);
}

fn row(change: &Change, before: &Sampled, after: &Sampled, scale: f64) -> [String; 5] {
    let significant = if change.significant {
        format!("yes (p {:.0e})", change.chance)
    } else {
        "no".to_owned()
    };
    [
        percent(change.before, before.samples),
        percent(change.after, after.samples),
        relative(change, scale),
        significant,
        short(&change.name),
    ]
}

/// How much more time it takes than before.
#[expect(clippy::cast_precision_loss, reason = "counts of samples")]
fn relative(change: &Change, scale: f64) -> String {
    if change.before == 0 {
        return "new".to_owned();
    }
    if change.after == 0 {
        return "gone".to_owned();
    }
    let before = change.before as f64 * scale;
    format!("{:+.0} %", 100.0 * change.more / before)
}

fn table<const N: usize>(header: [&str; N], numbers: usize) -> Table {
    let mut table = plain(header);
    for column in table.column_iter_mut().take(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn print(table: &Table, all: usize, text: &mut String) {
    text.push_str(&lines(table, ""));
    if all > ROWS {
        let _infallible = writeln!(text, " {ROWS} of {all} functions; use -o FILE to write all");
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples")]
fn percent(part: u64, whole: u64) -> String {
    format!("{:.1}", 100.0 * part as f64 / whole.max(1) as f64)
}

fn short(name: &str) -> String {
    cut(printable(name), WIDTH)
}
