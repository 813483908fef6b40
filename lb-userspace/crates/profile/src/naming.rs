//! From stacks as addresses to a profile.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use hotlb_sys::{clock::millis, perf::Scope};
use hotlb_values::profile::{Exposure, Frame, Profile, Sampled, Stack};

use super::{
    Plan,
    budget::Used,
    collector::Collector,
    helper::Counted,
    names::{Namer, Names},
    stacks::{Address, Key},
};

/// Puts names to what was collected.
#[expect(clippy::too_many_arguments, reason = "all that was found out, once")]
pub(super) fn name(
    plan: &Plan,
    scope: Scope,
    took: Duration,
    sampling: Used,
    subjects: Vec<Counted>,
    collector: &Collector,
    mut notes: Vec<String>,
) -> Profile {
    let stacks = subjects
        .iter()
        .flat_map(|subject| subject.tally.stacks.keys());
    let addresses: HashSet<Address> = stacks.flat_map(|key| key.frames.iter().copied()).collect();
    let mut namer = Namer::new(&collector.modules);
    let names = namer.names(addresses.into_iter());
    notes.append(&mut namer.notes);
    drop(namer);
    let mut table = Table::default();
    let mut sampled = |subject: Counted| Sampled {
        generation: subject.generation,
        samples: subject.tally.samples,
        expected: subject.expected,
        lost: subject.tally.lost,
        truncated: subject.tally.truncated,
        exposure: Exposure::default(),
        stacks: table.stacks(&names, &subject.tally.stacks),
    };
    let generations = subjects.into_iter().map(&mut sampled).collect();
    let used = Used::now();
    Profile {
        service: plan.service.clone(),
        measure: plan.measure,
        frequency: plan.frequency,
        took_ms: millis(took),
        unwind: plan.unwind,
        scope,
        frames: table.frames,
        generations,
        notes,
        own_cpu_ms: millis(sampling.cpu),
        names_cpu_ms: millis(used.cpu.saturating_sub(sampling.cpu)),
        own_memory_bytes: sampling.memory.max(used.memory),
    }
}

/// Functions, each once.
#[derive(Default)]
struct Table {
    frames: Vec<Frame>,
    places: HashMap<Frame, u32>,
}

impl Table {
    fn stacks(&mut self, names: &Names, counted: &HashMap<Key, u64>) -> Vec<Stack> {
        // Different addresses of the same functions are the same stack.
        let mut merged: HashMap<(&str, Vec<u32>), u64> = HashMap::new();
        for (key, &count) in counted {
            let addresses = key.frames.iter().rev();
            let functions = addresses.filter_map(|address| names.get(address)).flatten();
            let frames = functions.map(|frame| self.place(frame)).collect();
            *merged.entry((&*key.thread, frames)).or_default() += count;
        }
        let stack = |((thread, frames), count): ((&str, Vec<u32>), u64)| Stack {
            thread: thread.to_owned(),
            frames,
            count,
        };
        let mut stacks: Vec<_> = merged.into_iter().map(stack).collect();
        stacks.sort_by(|a, b| {
            let order = b.count.cmp(&a.count);
            order.then_with(|| (&a.thread, &a.frames).cmp(&(&b.thread, &b.frames)))
        });
        stacks
    }

    fn place(&mut self, frame: &Frame) -> u32 {
        if let Some(&place) = self.places.get(frame) {
            return place;
        }
        let place = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        self.frames.push(frame.clone());
        self.places.insert(frame.clone(), place);
        place
    }
}
