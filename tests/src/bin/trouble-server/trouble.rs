//! What may go wrong, and until when.

use std::{
    hint::black_box,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// The trouble there is.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<Kinds>);

#[derive(Debug, Default)]
struct Kinds {
    slow: Option<Part>,
    lose: Option<Part>,
    stall: Option<Instant>,
    deaf: Option<Instant>,
    burn: Option<Part>,
}

/// Of some requests.
#[derive(Clone, Copy, Debug)]
struct Part {
    until: Instant,
    /// Of a thousand requests so many.
    permille: u64,
    /// How much.
    amount: u64,
}

/// What a request is to suffer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    /// It waits longer.
    pub(crate) slow: Duration,
    /// It is not answered.
    pub(crate) lost: bool,
    /// It waits until then.
    pub(crate) stall: Option<Instant>,
    /// Steps of needless work.
    pub(crate) burn: u64,
}

impl Trouble {
    /// Begins what a line says:
    ///
    /// - `slow MS PERMILLE BY_MS`: some requests take longer;
    /// - `lose MS PERMILLE 0`: some connections are ended without an answer;
    /// - `burn MS PERMILLE STEPS`: some requests need more CPU time, in [`needless`];
    /// - `stall MS`: no request is answered before that time is over;
    /// - `deaf MS`: no connection is accepted before that.
    pub(crate) fn begin(&self, line: &str) -> Result<()> {
        let mut words = line.split_whitespace();
        let kind = words.next().context("no word")?;
        let mut number = || {
            words
                .next()
                .context("a number is missing")?
                .parse::<u64>()
                .context("no number")
        };
        let until = Instant::now() + Duration::from_millis(number()?);
        let mut part = || {
            anyhow::Ok(Some(Part {
                until,
                permille: number()?,
                amount: number()?,
            }))
        };
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            "slow" => kinds.slow = part()?,
            "lose" => kinds.lose = part()?,
            "burn" => kinds.burn = part()?,
            "stall" => kinds.stall = Some(until),
            "deaf" => kinds.deaf = Some(until),
            other => bail!("what is {other}?"),
        }
        Ok(())
    }

    /// What the request with this number is to suffer.
    pub(crate) fn fate(&self, number: u64) -> Fate {
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let hit = |part: Option<Part>| {
            // Requests are hit evenly, not in a row: 617 and 1000 have no common divisor.
            part.filter(|part| part.until > now && number.wrapping_mul(617) % 1000 < part.permille)
        };
        Fate {
            slow: Duration::from_millis(hit(kinds.slow).map_or(0, |part| part.amount)),
            lost: hit(kinds.lose).is_some(),
            stall: kinds.stall.filter(|until| *until > now),
            burn: hit(kinds.burn).map_or(0, |part| part.amount),
        }
    }

    /// Until when no connection is accepted.
    pub(crate) fn deaf(&self) -> Option<Instant> {
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.deaf.filter(|until| *until > Instant::now())
    }
}

/// The work of a request. Opaque, as below: a call at the very end would become a jump, and the function be in no
/// stack.
#[inline(never)]
pub(crate) fn useful(steps: u64) -> u64 {
    black_box((0..steps).fold(1, step))
}

/// The guilty function.
#[inline(never)]
pub(crate) fn needless(steps: u64) -> u64 {
    black_box((0..steps).fold(2, step))
}

fn step(state: u64, number: u64) -> u64 {
    (0..16).fold(state, |state, more| {
        black_box(state.wrapping_mul(31).wrapping_add(number ^ more))
    })
}
