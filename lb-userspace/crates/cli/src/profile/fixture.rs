//! A profile for tests.

use std::collections::HashMap;

use hotlb_sys::perf::Scope;
use hotlb_values::profile::{Exposure, Frame, FrameKind, Measure, Profile, Sampled, Stack, Unwind};

/// A profile of generations with these folded stacks.
pub(super) fn profile(generations: &[&[(&str, u64)]]) -> Profile {
    let mut frames = Vec::new();
    let mut places = HashMap::new();
    let mut place = |name: &str| {
        *places.entry(name.to_owned()).or_insert_with(|| {
            frames.push(Frame {
                name: name.to_owned(),
                module: Some("/bin/web".to_owned()),
                kind: FrameKind::User,
            });
            u32::try_from(frames.len() - 1).unwrap()
        })
    };
    let mut sampled = Vec::new();
    for (stacks, number) in generations.iter().zip(1..) {
        let stack = |&(path, count): &(&str, u64)| Stack {
            thread: "web".to_owned(),
            frames: path.split(';').map(&mut place).collect(),
            count,
        };
        let stacks: Vec<_> = stacks.iter().map(stack).collect();
        let samples = stacks.iter().map(|stack| stack.count).sum();
        sampled.push(Sampled {
            generation: format!("gen{number}"),
            samples,
            expected: Some(samples),
            lost: 0,
            truncated: 0,
            exposure: Exposure::default(),
            stacks,
        });
    }
    Profile {
        service: "web".to_owned(),
        measure: Measure::Cpu,
        frequency: 99,
        took_ms: 10_000,
        unwind: Unwind::Auto,
        scope: Scope::Cgroup,
        frames,
        generations: sampled,
        notes: Vec::new(),
        own_cpu_ms: 0,
        names_cpu_ms: 0,
        own_memory_bytes: 0,
    }
}
