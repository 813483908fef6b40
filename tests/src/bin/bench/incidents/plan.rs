//! What goes wrong, when, and how much there is to do.

use std::time::Duration;

/// Seconds without trouble first.
const FIRST: u64 = 40;
/// Seconds from one anomaly to the next.
const APART: u64 = 13;
/// How long a level of the load lasts, in seconds; not a divisor of [`APART`].
const LEVEL: f64 = 27.0;
/// Requests per second of each generation.
const LEVELS: [f64; 7] = [60.0, 110.0, 45.0, 140.0, 80.0, 160.0, 70.0];

/// A generation, and where its server is told what goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) control: u16,
}

/// The one that has kept connections.
pub(super) const KEPT: Side = Side {
    name: "gen1",
    control: 9001,
};
/// The one that gets new ones.
pub(super) const NEW: Side = Side {
    name: "gen2",
    control: 9002,
};

/// One anomaly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Injection {
    /// When, after the beginning.
    pub(super) at: Duration,
    /// To which generation.
    pub(super) to: Side,
    /// What its server is told, with its time in milliseconds; "stop" for SIGSTOP.
    pub(super) kind: &'static str,
    /// How long, in milliseconds.
    pub(super) lasts_ms: u64,
    /// What follows its time.
    pub(super) more: &'static str,
}

/// What is done to the generation that has kept connections. They cannot be lost, for new ones would go to the other.
const TO_KEPT: [(&str, u64, &str); 5] = [
    ("slow", 1_500, "200 60"),
    ("slow", 1_300, "1000 25"),
    ("stall", 1_200, ""),
    ("burn", 1_500, "1000 8000"),
    ("stop", 1_400, ""),
];

/// What is done to the one that gets new connections.
const TO_NEW: [(&str, u64, &str); 8] = [
    ("slow", 1_500, "150 80"),
    ("deaf", 1_300, ""),
    ("slow", 1_200, "1000 30"),
    ("lose", 1_200, "250 0"),
    ("burn", 1_500, "1000 9000"),
    ("stall", 1_000, ""),
    ("stop", 1_200, ""),
    ("slow", 1_400, "300 40"),
];

/// All of them, `count` in number: two of five are done to kept connections.
pub(super) fn injections(count: usize) -> Vec<Injection> {
    let (mut kept, mut new) = (TO_KEPT.iter().cycle(), TO_NEW.iter().cycle());
    let mut all = Vec::with_capacity(count);
    for number in 0..count {
        let to_kept = matches!(number % 5, 1 | 3);
        let kind = if to_kept { kept.next() } else { new.next() };
        let Some(&(kind, lasts_ms, more)) = kind else {
            break;
        };
        let number = number as u64;
        // At any moment of a window.
        let within = number * 370 % 1_000;
        all.push(Injection {
            at: Duration::from_secs(FIRST + number * APART) + Duration::from_millis(within),
            to: if to_kept { KEPT } else { NEW },
            kind,
            lasts_ms,
            more,
        });
    }
    all
}

/// Requests per second that a generation gets at a moment: levels, and a swell on them.
pub(super) fn rate(since: Duration, generation: usize) -> f64 {
    let seconds = since.as_secs_f64();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small count of levels"
    )]
    let step = (seconds / LEVEL) as usize + 3 * generation;
    let level = LEVELS.get(step % LEVELS.len()).copied().unwrap_or(60.0);
    level * (1.0 + 0.15 * (seconds / 5.0).sin())
}
