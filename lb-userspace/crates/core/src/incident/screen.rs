//! The first stage: all generations of a service, second by second.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use super::{
    Gate, Held, Limits, Reading, Score, Window,
    past::{Moment, Past},
    score::{self, Beside},
};

/// What is known of a service's generations.
#[derive(Debug, Default)]
pub struct Screen {
    tracks: BTreeMap<u32, Track>,
    gate: Gate,
}

#[derive(Debug, Default)]
struct Track {
    name: String,
    last: Option<Reading>,
    past: Past,
    /// The scores of the newest windows of `past`, where there are any.
    scores: Vec<Option<f64>>,
}

/// A window that was looked at.
#[derive(Clone, Debug)]
pub struct Screened {
    /// The generation's id.
    pub id: u32,
    /// Its name.
    pub generation: String,
    /// The window.
    pub window: Window,
    /// The generation beside it, and its window.
    pub beside: Option<(u32, String, Window)>,
    /// Its score.
    pub score: Option<Score>,
    /// What follows.
    pub verdict: Verdict,
}

/// What becomes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is too little to compare.
    Unscored,
    /// Nothing unusual.
    Dropped,
    /// Unusual, and not looked at.
    Held(Held),
    /// It is to be looked at closely. [`Screen::captured`] is to be called then.
    Capture,
}

/// A window that took shorter or longer, because the agent was busy, is no second.
const TOOK_MS: RangeInclusive<u64> = 700..=1_500;
/// A window of fewer requests than this part of usual has its unread connections counted.
const FEW: u64 = 3;

impl Screen {
    /// The window of a generation since its last reading; `None` for its first, and when it was no
    /// second.
    pub fn window(&mut self, id: u32, name: &str, reading: Reading, at_ms: i64) -> Option<Window> {
        let track = self.tracks.entry(id).or_default();
        name.clone_into(&mut track.name);
        let last = track.last.replace(reading);
        let window = Window::between(&last?, track.last.as_ref()?, at_ms);
        TOOK_MS.contains(&window.took_ms).then_some(window)
    }

    /// Whether far fewer requests were answered than a moment ago, although there are connections:
    /// then [`Window::unread`] is wanted.
    pub fn is_silent(&self, id: u32, window: &Window) -> bool {
        let Some(track) = self.tracks.get(&id) else {
            return false;
        };
        let mut before: Vec<u64> = track
            .past
            .windows()
            .rev()
            .take(10)
            .map(|w| w.requests)
            .collect();
        before.sort_unstable();
        let usual = before.get(before.len() / 2).copied().unwrap_or_default();
        window.live > 0 && usual > 0 && window.requests * FEW < usual
    }

    /// Scores the windows of one second: ids, names and windows.
    pub fn judge(
        &mut self,
        windows: &[(u32, &str, Window)],
        limits: &Limits,
        now: Duration,
    ) -> Vec<Screened> {
        let mut screened = Vec::with_capacity(windows.len());
        for &(id, name, window) in windows {
            let others = windows.iter().filter(|(other, ..)| *other != id);
            let beside = others.max_by_key(|(.., window)| window.load());
            let beside = beside.filter(|(.., window)| window.load() > 0);
            let moment = Moment::new(window, beside.map(|(.., window)| window));
            let track = self.tracks.entry(id).or_default();
            let named = beside.map(|(_, name, window)| Beside { name, window });
            let score = score::judge(&moment, &track.past, named);
            track.past.add(moment);
            track.scores.push(score.as_ref().map(|score| score.value));
            let excess = track.scores.len().saturating_sub(track.past.len());
            track.scores.drain(..excess);
            screened.push(Screened {
                id,
                generation: name.to_owned(),
                window,
                beside: beside.map(|&(id, name, window)| (id, name.to_owned(), window)),
                score,
                verdict: Verdict::Unscored,
            });
        }
        self.let_through(&mut screened, limits, now);
        screened
    }

    /// The most unusual window of this second comes first at the gate.
    fn let_through(&mut self, screened: &mut [Screened], limits: &Limits, now: Duration) {
        let value = |window: &Screened| window.score.as_ref().map_or(-1.0, |score| score.value);
        let mut order: Vec<_> = screened.iter_mut().collect();
        order.sort_by(|a, b| value(b).total_cmp(&value(a)));
        for window in order {
            let Some(score) = &window.score else {
                continue;
            };
            window.verdict = if score.value < limits.threshold {
                self.gate.low(limits, window.id, score.value);
                Verdict::Dropped
            } else {
                match self.gate.ask(limits, window.id, now) {
                    Ok(()) => Verdict::Capture,
                    Err(held) => Verdict::Held(held),
                }
            };
        }
    }

    /// The capture ended that [`Verdict::Capture`] began.
    pub fn captured(&mut self, now: Duration) {
        self.gate.done(now);
    }

    /// Forgets generations that `stays` does not name.
    pub fn retain(&mut self, stays: impl Fn(u32) -> bool) {
        self.tracks.retain(|&id, _| stays(id));
    }

    /// The newest `count` windows of a generation, oldest first, and their scores.
    pub fn newest(&self, id: u32, count: usize) -> Vec<(Window, Option<f64>)> {
        let Some(track) = self.tracks.get(&id) else {
            return Vec::new();
        };
        let windows = track
            .past
            .windows()
            .copied()
            .zip(track.scores.iter().copied());
        windows
            .skip(track.past.len().saturating_sub(count))
            .collect()
    }

    /// The generations, by id.
    pub fn generations(&self) -> impl Iterator<Item = (u32, &str)> {
        self.tracks
            .iter()
            .map(|(&id, track)| (id, track.name.as_str()))
    }
}
