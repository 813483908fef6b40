//! What changed between two generations that were sampled at the same moment.

use std::collections::{BTreeMap, BTreeSet};

use hotlb_values::profile::{Profile, Sampled};

/// The chance, over all functions together, that one is called significant by accident.
const ALPHA: f64 = 0.01;
/// Connections opened meanwhile from which the mean cost of one says something.
const ENOUGH: u64 = 30;

/// What CPU time is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A connection that was opened meanwhile.
    Opened,
    /// A connection that was open.
    Live,
    /// A sample: there were no connections to compare by.
    Sample,
}

impl Unit {
    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Opened => "per connection opened",
            Self::Live => "per open connection",
            Self::Sample => "per sample",
        }
    }
}

/// Two generations compared.
#[derive(Clone, Debug)]
pub(super) struct Diff {
    /// What CPU time is divided by.
    pub unit: Unit,
    /// Samples of the first generation count this much: as if both had had as many units.
    pub scale: f64,
    /// CPU time of the second per unit, as a multiple of the first's.
    pub total: f64,
    /// The functions: significant changes first, the surest first.
    pub changes: Vec<Change>,
}

/// A function in both.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Its name.
    pub name: String,
    /// Samples of the first generation in it and in what it calls.
    pub before: u64,
    /// Samples of the second.
    pub after: u64,
    /// Samples of the second in it itself.
    pub own: u64,
    /// Samples more, or less, than the first's would be for as many units.
    pub more: f64,
    /// The chance of such a difference if nothing had changed, corrected for the number of
    /// functions (Holm).
    pub chance: f64,
    /// How many standard errors it is from no change.
    pub errors: f64,
    /// Whether it is no accident.
    pub significant: bool,
}

impl Diff {
    /// What is other in `after` than in `before`.
    pub(super) fn of(profile: &Profile, before: &Sampled, after: &Sampled) -> Self {
        let (unit, scale) = scale(before, after);
        let total = float(after.samples) / (float(before.samples) * scale).max(f64::MIN_POSITIVE);
        let (in_before, in_after) = (functions(profile, before), functions(profile, after));
        let names: BTreeSet<_> = in_before.keys().chain(in_after.keys()).collect();
        let change = |name: &&&str| {
            let count = |all: &BTreeMap<&str, Counts>| all.get(**name).copied().unwrap_or_default();
            let (first, Counts { all: second, own }) = (count(&in_before).all, count(&in_after));
            let shares = shares_differ(first, before.samples, second, after.samples);
            let rates = rates_differ(first, second, scale);
            // A share also falls when another function grows, and all of a generation's rates
            // rise when it has busier connections: a function changed if both did, alike.
            let alike = shares * rates > 0.0;
            let least = if alike {
                shares.abs().min(rates.abs())
            } else {
                0.0
            };
            Change {
                name: (**name).to_owned(),
                before: first,
                after: second,
                own,
                more: float(second) - float(first) * scale,
                chance: two_sided(least),
                errors: least,
                significant: false,
            }
        };
        let mut changes: Vec<_> = names.iter().map(change).collect();
        correct(&mut changes);
        changes.sort_by(|a, b| {
            let significant = b.significant.cmp(&a.significant);
            // Of callers in a row that changed alike, the one where the time is spent.
            let sure = b.errors.total_cmp(&a.errors).then(b.own.cmp(&a.own));
            significant.then(sure).then(b.more.total_cmp(&a.more))
        });
        Self {
            unit,
            scale,
            total,
            changes,
        }
    }
}

/// By what, and how much the first generation's samples count.
fn scale(before: &Sampled, after: &Sampled) -> (Unit, f64) {
    let (first, second) = (before.exposure, after.exposure);
    if first.opened.min(second.opened) >= ENOUGH {
        (Unit::Opened, float(second.opened) / float(first.opened))
    } else if first.live_twice.min(second.live_twice) > 0 {
        (
            Unit::Live,
            float(second.live_twice) / float(first.live_twice),
        )
    } else {
        let first = float(before.samples.max(1));
        (Unit::Sample, float(after.samples) / first)
    }
}

/// Samples of a function.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// In it and in what it calls.
    all: u64,
    /// In it itself.
    own: u64,
}

/// Samples by function: callers too, for what became slow may be all in small functions that
/// many call.
fn functions<'a>(profile: &'a Profile, sampled: &'a Sampled) -> BTreeMap<&'a str, Counts> {
    let mut functions: BTreeMap<&str, Counts> = BTreeMap::new();
    for stack in &sampled.stacks {
        let names = profile.frames_of(stack).map(|frame| frame.name.as_str());
        if let Some(leaf) = names.clone().last() {
            functions.entry(leaf).or_default().own += stack.count;
        }
        // One that calls itself counts once.
        for name in names.collect::<BTreeSet<_>>() {
            functions.entry(name).or_default().all += stack.count;
        }
    }
    functions
}

/// How many standard errors two shares are apart (pooled, with a correction for continuity).
fn shares_differ(first: u64, of_first: u64, second: u64, of_second: u64) -> f64 {
    let (n1, n2) = (float(of_first.max(1)), float(of_second.max(1)));
    let difference = float(second) / n2 - float(first) / n1;
    let pooled = float(first + second) / (n1 + n2);
    let error = (pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n2)).sqrt();
    let correction = 0.5 / n1 + 0.5 / n2;
    standard_errors(difference, correction, error)
}

/// How many standard errors a count is from another for as many units.
fn rates_differ(first: u64, second: u64, scale: f64) -> f64 {
    let difference = float(second) - float(first) * scale;
    let error = (float(second) + float(first) * scale * scale).sqrt();
    standard_errors(difference, 0.5 + 0.5 * scale, error)
}

fn standard_errors(difference: f64, correction: f64, error: f64) -> f64 {
    if error <= 0.0 {
        return 0.0;
    }
    let size = (difference.abs() - correction).max(0.0) / error;
    size.copysign(difference)
}

/// The chance of a difference of this many standard errors, in either direction.
fn two_sided(errors: f64) -> f64 {
    libm::erfc(errors.abs() / std::f64::consts::SQRT_2)
}

/// Corrects for the number of functions (Holm), and says which changes are significant.
fn correct(changes: &mut [Change]) {
    changes.sort_by(|a, b| a.chance.total_cmp(&b.chance));
    let count = changes.len();
    let mut least = 0.0_f64;
    for (rank, change) in changes.iter_mut().enumerate() {
        let left = float((count - rank) as u64);
        least = least.max((change.chance * left).min(1.0));
        change.chance = least;
        change.significant = least < ALPHA;
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of samples and connections, far below 2^52"
)]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use hotlb_values::profile::Exposure;

    use super::{super::fixture::profile, *};

    fn diff(generations: &[&[(&str, u64)]], opened: [u64; 2]) -> Diff {
        let mut profile = profile(generations);
        for (sampled, opened) in profile.generations.iter_mut().zip(opened) {
            sampled.exposure = Exposure {
                opened,
                live_twice: 0,
            };
        }
        let [before, after] = profile.generations.as_slice() else {
            panic!("not two");
        };
        Diff::of(&profile, before, after)
    }

    #[test]
    fn what_grew_comes_first_and_alone() {
        let before: &[_] = &[("main;slow", 100), ("main;same", 500), ("main;small", 3)];
        let after: &[_] = &[("main;slow", 400), ("main;same", 510), ("main;small", 5)];
        let diff = diff(&[before, after], [1000, 1000]);
        assert_eq!(diff.unit, Unit::Opened);
        let significant: Vec<_> = diff.changes.iter().filter(|c| c.significant).collect();
        assert_eq!(
            significant.len(),
            1,
            "`main` grew, its share did not: {diff:?}"
        );
        assert_eq!(diff.changes[0].name, "slow");
        assert!((diff.changes[0].more - 300.0).abs() < 1e-9);
        assert!((diff.total - 915.0 / 603.0).abs() < 1e-9);
    }

    #[test]
    fn twice_the_connections_are_no_change() {
        let before: &[_] = &[("main;a", 300), ("main;b", 200)];
        let after: &[_] = &[("main;a", 610), ("main;b", 390)];
        let diff = diff(&[before, after], [500, 1000]);
        assert!((diff.scale - 2.0).abs() < 1e-9);
        assert!(
            diff.changes.iter().all(|change| !change.significant),
            "{diff:?}"
        );
    }

    #[test]
    fn many_functions_that_scatter_are_no_change() {
        let names: Vec<_> = (0..200).map(|n| format!("main;f{n}")).collect();
        // Two Poisson-like sequences of the same mean, from a fixed generator.
        let mut state = 7_u64;
        let mut scatter = || {
            let mut count = 0;
            for _ in 0..40 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                count += (state >> 33) % 2;
            }
            count
        };
        let mut one = || {
            names
                .iter()
                .map(|n| (n.as_str(), scatter()))
                .collect::<Vec<_>>()
        };
        let (before, after) = (one(), one());
        let diff = diff(&[&before, &after], [1000, 1000]);
        assert!(
            diff.changes.iter().all(|change| !change.significant),
            "{diff:?}"
        );
    }

    #[test]
    fn without_connections_shares_are_compared() {
        let before: &[_] = &[("main;a", 300), ("main;b", 200)];
        let after: &[_] = &[("main;a", 30), ("main;b", 20)];
        let diff = diff(&[before, after], [0, 0]);
        assert_eq!(diff.unit, Unit::Sample);
        assert!(diff.changes.iter().all(|change| !change.significant));
    }

    #[test]
    fn five_sigma_are_rare() {
        assert!((two_sided(1.959_964) - 0.05).abs() < 1e-6);
        assert!(two_sided(5.0) < 1e-6);
    }
}
