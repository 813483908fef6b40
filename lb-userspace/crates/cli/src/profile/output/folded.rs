//! Stacks as lines: frames separated by semicolons, a space, a count.

use std::collections::BTreeMap;

use hotlb_values::profile::{Frame, FrameKind, Profile, Sampled, Stack};

/// All stacks of these generations, each once.
pub(super) fn lines(profile: &Profile, generations: &[Sampled]) -> Vec<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for stack in generations.iter().flat_map(|sampled| &sampled.stacks) {
        *counts.entry(path(profile, stack)).or_default() += stack.count;
    }
    let line = |(path, count)| format!("{path} {count}");
    counts.into_iter().map(line).collect()
}

/// The stacks of both with two counts each; those of `before` multiplied by `scale`.
pub(super) fn compared(
    profile: &Profile,
    before: &Sampled,
    after: &Sampled,
    scale: f64,
) -> Vec<String> {
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for stack in &before.stacks {
        counts.entry(path(profile, stack)).or_default().0 += stack.count;
    }
    for stack in &after.stacks {
        counts.entry(path(profile, stack)).or_default().1 += stack.count;
    }
    let line = |(path, (before, after))| format!("{path} {} {after}", scaled(before, scale));
    counts.into_iter().map(line).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "counts of samples, not negative and far below 2^52"
)]
fn scaled(count: u64, scale: f64) -> u64 {
    (count as f64 * scale).round() as u64
}

fn path(profile: &Profile, stack: &Stack) -> String {
    let mut path = clean(&stack.thread);
    for frame in profile.frames_of(stack) {
        path.push(';');
        path.push_str(&marked(frame));
    }
    path
}

/// The name with the mark that viewers know code of the kernel, the runtime and the compiler by.
fn marked(frame: &Frame) -> String {
    let mark = match frame.kind {
        FrameKind::Kernel => "_[k]",
        FrameKind::Jit => "_[j]",
        FrameKind::Inlined => "_[i]",
        FrameKind::User | FrameKind::Note => "",
    };
    format!("{}{mark}", clean(&frame.name))
}

/// Without what would end a frame or a line.
fn clean(name: &str) -> String {
    let clean = |c: char| match c {
        ';' => ':',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    name.chars().map(clean).collect()
}

#[cfg(test)]
pub(in super::super) mod tests {
    use super::{super::super::fixture::profile, *};

    #[test]
    fn a_line_has_thread_frames_and_count() {
        let profile = profile(&[&[("main;spin", 3), ("main;work", 4)]]);
        assert_eq!(
            lines(&profile, &profile.generations),
            ["web;main;spin 3", "web;main;work 4"]
        );
    }

    #[test]
    fn names_cannot_break_a_line() {
        assert_eq!(clean("a;b\nc"), "a:b\u{fffd}c");
    }

    #[test]
    fn two_generations_have_two_counts() {
        let profile = profile(&[&[("main;spin", 3)], &[("main;work", 4)]]);
        let [before, after] = profile.generations.as_slice() else {
            panic!("not two");
        };
        assert_eq!(
            compared(&profile, before, after, 2.0),
            ["web;main;spin 6 0", "web;main;work 0 4"]
        );
    }
}
