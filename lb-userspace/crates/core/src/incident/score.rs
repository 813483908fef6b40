//! How unusual a window is, and in what.
//!
//! Each signal has an *excess*: 1 where it is both twice as much as usual and 4.5 standard
//! deviations from it, as a robust estimate has them. The greatest excess makes the score,
//! `excess / (excess + 2/3)`: 0.6 for an excess of 1, 0.75 for one of 2, never 1.

use std::f64::consts::LN_2;

use super::{
    Window,
    past::{ENOUGH, Like, Moment, Past},
    signal::{Curve, float},
    words::{amount, count},
};

/// A window's score.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// From 0, as usual, to 1.
    pub value: f64,
    /// What is unusual, in words; empty if nothing is.
    pub reason: String,
}

/// The generation beside it, in the same second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside<'a> {
    pub(super) name: &'a str,
    pub(super) window: &'a Window,
}

/// Standard deviations from usual that are enough.
const DEVIATIONS: f64 = 4.5;
/// The least deviation there is, on the logarithmic scale: a histogram's bucket is 9 % wide.
const LEAST_DEVIATION: f64 = 0.12;
/// A generation without a past is compared with the one beside it: three times as much is enough.
const FIRST_LIMIT: f64 = 1.1;
/// A window with less to do than that says nothing.
const LITTLE: u64 = 5;
/// After so many windows; before, it warms up.
const FIRST_WINDOWS: usize = 5;
/// At a load that there never was, so much of an excess counts.
const AT_ANOTHER_LOAD: f64 = 0.6;
/// Losses in a second, where there are none usually, that make an excess of 1.
const LOSSES: f64 = 3.0;
/// Connections that nobody reads from, likewise.
const UNREAD: f64 = 3.0;
/// The excess of which half of the score would come.
const HALF: f64 = 2.0 / 3.0;
/// From so little on there is nothing to be said of it.
const MENTIONED: f64 = 0.5;

/// Something unusual.
struct Finding {
    excess: f64,
    words: String,
}

/// The score of a window that is not part of `past`; `None` while it is not known what is usual,
/// or when too little happened.
pub(super) fn judge(moment: &Moment, past: &Past, beside: Option<Beside<'_>>) -> Option<Score> {
    let window = &moment.window;
    let waits = u64::from(window.queue) + u64::from(window.unread.unwrap_or_default());
    if window.load() + window.lost + window.dropped + waits < LITTLE {
        return None;
    }
    let known = past.len() >= ENOUGH;
    if !known && (beside.is_none() || past.len() < FIRST_WINDOWS) {
        return None;
    }
    let like = past.like(window.load());
    let mut findings = if known {
        let mut findings: Vec<_> = times(moment, &like, beside).collect();
        findings.extend(cpu(moment, &like, beside));
        findings.extend(silence(window, past));
        findings
    } else {
        first(moment, beside).collect()
    };
    if known {
        findings.extend(losses(window, &like));
        findings.extend(drops(window, &like));
    }
    let said_something = !findings.is_empty();
    findings.sort_by(|a, b| b.excess.total_cmp(&a.excess));
    let greatest = findings.first().map_or(0.0, |found| found.excess);
    let mentioned = findings.iter().filter(|found| found.excess >= MENTIONED);
    let reason: Vec<_> = mentioned.take(3).map(|found| found.words.clone()).collect();
    said_something.then(|| Score {
        value: greatest / (greatest + HALF),
        reason: reason.join("; "),
    })
}

/// Service time, queue wait and accept queue.
fn times(
    moment: &Moment,
    like: &Like<'_>,
    beside: Option<Beside<'_>>,
) -> impl Iterator<Item = Finding> {
    // Of several quantiles of the same time the most unusual one speaks.
    let groups: [&[Curve]; 3] = [
        &[Curve::Service50, Curve::Service90, Curve::Service99],
        &[Curve::Wait50, Curve::Wait90, Curve::Wait99],
        &[Curve::Queue],
    ];
    groups.into_iter().filter_map(move |group| {
        let found = group
            .iter()
            .filter_map(|&curve| Some((curve, excess(moment, like, curve)?)));
        let (curve, excess) = found.max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Finding {
            excess,
            words: compared(moment, like, curve, beside),
        })
    })
}

/// CPU time, in all and for each request: a generation with more to do uses more, and one with
/// less to do uses more for each.
fn cpu(moment: &Moment, like: &Like<'_>, beside: Option<Beside<'_>>) -> Option<Finding> {
    let all = excess(moment, like, Curve::Cpu)?;
    let (excess, curve) = match excess(moment, like, Curve::CpuEach) {
        Some(each) => (all.min(each), Curve::CpuEach),
        None => (all, Curve::Cpu),
    };
    Some(Finding {
        excess,
        words: compared(moment, like, curve, beside),
    })
}

/// How far a value is from usual. What the generation beside shows too is the load's doing or the
/// host's, and counts half.
fn excess(moment: &Moment, like: &Like<'_>, curve: Curve) -> Option<f64> {
    let value = moment.value(curve)?;
    let usual = like.usual(|past| past.value(curve))?;
    let weight = curve.weight(&moment.window);
    let mut own = weight * beyond(value - usual.median, usual.deviation);
    if !like.same_load {
        own *= AT_ANOTHER_LOAD;
    }
    let ahead = moment.ahead(curve).and_then(|ahead| {
        let usual = like.usual(|past| past.ahead(curve))?;
        Some(weight * beyond(ahead - usual.median, usual.deviation))
    });
    Some(ahead.map_or(own, |ahead| f64::midpoint(own, own.min(ahead))))
}

fn beyond(distance: f64, deviation: f64) -> f64 {
    let far = distance / (DEVIATIONS * deviation.max(LEAST_DEVIATION));
    far.min(distance / LN_2).max(0.0)
}

/// A generation that has no past yet, beside one that serves.
fn first(moment: &Moment, beside: Option<Beside<'_>>) -> impl Iterator<Item = Finding> {
    let curves = [Curve::Service50, Curve::Service90, Curve::Wait90];
    curves.into_iter().filter_map(move |curve| {
        let Beside { name, window } = beside?;
        let excess = (moment.ahead(curve)? / FIRST_LIMIT).max(0.0);
        let value = amount(curve, moment.value(curve)?);
        let other = amount(curve, curve.of(window)?);
        Some(Finding {
            excess,
            words: format!("{} {value}, {name} at the same time {other}", curve.name()),
        })
    })
}

fn losses(window: &Window, like: &Like<'_>) -> Option<Finding> {
    let share = |w: &Window| float(w.lost) / float(w.closed.max(1));
    let usual = like.usual(|past| Some(share(&past.window)))?;
    let expected = usual.median * float(window.closed);
    (window.lost > 0).then(|| Finding {
        excess: by_chance(float(window.lost), expected),
        words: format!(
            "{} lost, usually {expected:.0}",
            count(window.lost, "connection")
        ),
    })
}

fn drops(window: &Window, like: &Like<'_>) -> Option<Finding> {
    let usual = like.usual(|past| Some(float(past.window.dropped)))?;
    (window.dropped > 0).then(|| Finding {
        excess: by_chance(float(window.dropped), usual.median),
        words: format!(
            "{} dropped, usually {:.0}: the accept queue is full",
            count(window.dropped, "handshake"),
            usual.median
        ),
    })
}

/// Events that come by chance vary by the root of their number.
fn by_chance(found: f64, expected: f64) -> f64 {
    ((found - expected) / (LOSSES * (expected + 1.0).sqrt())).max(0.0)
}

/// Requests that came and are not read. Fewer answers alone are no fault: clients may be silent.
fn silence(window: &Window, past: &Past) -> Option<Finding> {
    let unread = window.unread.filter(|&unread| unread > 0)?;
    let mut answered: Vec<u64> = past.windows().map(|past| past.requests).collect();
    answered.sort_unstable();
    let usual = *answered.get(answered.len() / 2)?;
    let fewer = (float(usual + 1) / float(window.requests + 1)).ln() / (2.0 * LN_2);
    let excess = fewer.min(float(u64::from(unread)) / UNREAD).max(0.0);
    Some(Finding {
        excess,
        words: format!(
            "{} answered, usually {usual}, while {} waiting",
            count(window.requests, "request"),
            match unread {
                1 => "1 connection is".to_owned(),
                many => format!("{many} connections are"),
            }
        ),
    })
}

fn compared(moment: &Moment, like: &Like<'_>, curve: Curve, beside: Option<Beside<'_>>) -> String {
    let value = moment.value(curve).map(|value| amount(curve, value));
    let mut words = format!("{} {}", curve.name(), value.unwrap_or_default());
    if let Some(usual) = like.usual(|past| past.value(curve)) {
        words.push_str(", usually ");
        words.push_str(&amount(curve, usual.median));
    }
    if let Some(Beside { name, window }) = beside
        && let Some(other) = curve.of(window)
    {
        words.extend([", ", name, " at the same time "]);
        words.push_str(&amount(curve, other));
    }
    words
}
