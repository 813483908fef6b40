//! The windows a generation had.

use std::collections::VecDeque;

use super::{
    Window,
    signal::{CURVES, Curve},
    statistics::Usual,
};

/// So many windows are remembered: two minutes. What lasts longer than half of that is usual.
const REMEMBERED: usize = 120;
/// From so many on they say what is usual.
pub(super) const ENOUGH: usize = 20;
/// How far apart loads may be that are alike: one is at most so many times the other.
const ALIKE: f64 = 1.7;

/// The windows a generation had, oldest first.
#[derive(Debug, Default)]
pub(super) struct Past {
    moments: VecDeque<Moment>,
}

/// A window, as it is compared.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) window: Window,
    values: [Option<f64>; CURVES],
    /// The values less those of the generation beside it.
    ahead: [Option<f64>; CURVES],
}

/// Windows to compare one with.
#[derive(Debug)]
pub(super) struct Like<'a> {
    moments: Vec<&'a Moment>,
    /// Whether their load is like that of the window.
    pub(super) same_load: bool,
}

impl Moment {
    /// A window, beside another generation's.
    pub(super) fn new(window: Window, beside: Option<&Window>) -> Self {
        let values = Curve::ALL.map(|curve| curve.of(&window));
        let other = Curve::ALL.map(|curve| beside.and_then(|beside| curve.of(beside)));
        let mut ahead = values;
        for (value, other) in ahead.iter_mut().zip(other) {
            *value = value.zip(other).map(|(value, other)| value - other);
        }
        Self {
            window,
            values,
            ahead,
        }
    }

    /// A value.
    pub(super) fn value(&self, curve: Curve) -> Option<f64> {
        self.values.get(curve as usize).copied().flatten()
    }

    /// A value less that of the generation beside it.
    pub(super) fn ahead(&self, curve: Curve) -> Option<f64> {
        self.ahead.get(curve as usize).copied().flatten()
    }
}

impl Past {
    /// One more.
    pub(super) fn add(&mut self, moment: Moment) {
        if self.moments.len() == REMEMBERED {
            self.moments.pop_front();
        }
        self.moments.push_back(moment);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.moments.len()
    }

    /// The windows, oldest first.
    pub(super) fn windows(&self) -> impl DoubleEndedIterator<Item = &Window> {
        self.moments.iter().map(|moment| &moment.window)
    }

    /// Those with a load like `load`, if there are enough, else all: more to do takes longer, and
    /// is nothing unusual.
    pub(super) fn like(&self, load: u64) -> Like<'_> {
        let range = super::signal::float(load + 5);
        let alike = |moment: &&Moment| {
            let other = super::signal::float(moment.window.load() + 5);
            other <= range * ALIKE && range <= other * ALIKE
        };
        let moments: Vec<_> = self.moments.iter().filter(alike).collect();
        if moments.len() >= ENOUGH / 2 {
            Like {
                moments,
                same_load: true,
            }
        } else {
            Like {
                moments: self.moments.iter().collect(),
                same_load: false,
            }
        }
    }
}

impl Like<'_> {
    /// What is usual of something that windows have; `None` where too few do.
    pub(super) fn usual(&self, value: impl Fn(&Moment) -> Option<f64>) -> Option<Usual> {
        let mut values: Vec<f64> = self.moments.iter().filter_map(|m| value(m)).collect();
        if values.len() < ENOUGH / 2 {
            return None;
        }
        Usual::of(&mut values)
    }
}
