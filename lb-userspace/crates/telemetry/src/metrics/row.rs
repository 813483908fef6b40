//! A row of the table, and what its function gives.

use super::native::Native;
use crate::observed::{Observed, ObservedGeneration, ObservedService};

/// A metric: everything there is to say of it, but its values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric {
    /// The whole name with the unit; a counter's `_total` is added where it is written.
    pub(super) name: &'static str,
    /// What its values are.
    pub(super) kind: Kind,
    /// The names of its labels. All of its samples have all of them.
    pub(super) labels: &'static [&'static str],
    /// What it says: one line of plain text, in the scrape and in the docs.
    pub(super) help: &'static str,
    /// Gives its samples.
    pub(super) emit: fn(&Observed, &mut Samples),
}

/// What the values of a metric are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// The units there are: the endings of names.
pub(super) const UNITS: [&str; 2] = ["seconds", "bytes"];

/// Rows that belong together: a part of `docs/user/observe/metrics.md`.
#[derive(Debug)]
pub(super) struct Section {
    /// Its mark in the docs.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the docs have parts"))]
    pub(super) mark: &'static str,
    /// Its rows.
    pub(super) rows: &'static [Metric],
}

/// The samples of one metric.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

/// A value with its labels.
#[derive(Debug)]
pub(super) struct Sample {
    /// In the order of [`Metric::labels`].
    pub(super) labels: Vec<String>,
    pub(super) value: Value,
}

/// A value.
#[derive(Debug)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
    Histogram(Histogram),
}

/// A histogram.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Upper bound and how many are in it and not in a smaller one; the last is infinite.
    pub(super) buckets: Vec<(f64, u64)>,
    /// Of all values.
    pub(super) sum: f64,
    /// The same values in finer buckets, if there are such.
    pub(super) native: Option<Native>,
    /// Some of the values, by the place of their bucket.
    pub(super) exemplars: Vec<(usize, Exemplar)>,
}

/// A value that leads to a trace.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exemplar {
    /// The trace: 32 hexadecimal digits.
    pub(super) trace: String,
    /// The value.
    pub(super) value: f64,
    /// When it was seen, in milliseconds since 1970; without it, when it is scraped.
    pub(super) at_ms: Option<i64>,
}

impl Metric {
    /// One that only grows.
    pub(super) const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        emit: fn(&Observed, &mut Samples),
    ) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            labels,
            help,
            emit,
        }
    }

    /// One that goes up and down.
    pub(super) const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        emit: fn(&Observed, &mut Samples),
    ) -> Self {
        Self {
            kind: Kind::Gauge,
            ..Self::counter(name, labels, help, emit)
        }
    }

    /// One that counts in buckets.
    pub(super) const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        emit: fn(&Observed, &mut Samples),
    ) -> Self {
        Self {
            kind: Kind::Histogram,
            ..Self::counter(name, labels, help, emit)
        }
    }

    /// The name without its unit, and the unit.
    pub(super) fn split(&self) -> (&'static str, Option<&'static str>) {
        let split = self.name.rsplit_once('_');
        match split.filter(|(_, ending)| UNITS.contains(ending)) {
            Some((name, unit)) => (name, Some(unit)),
            None => (self.name, None),
        }
    }

    /// Its samples now.
    pub(super) fn samples(&self, observed: &Observed) -> Vec<Sample> {
        let mut samples = Samples::default();
        (self.emit)(observed, &mut samples);
        samples.0
    }
}

impl Samples {
    /// Adds a sample; `labels` in the order of the row.
    pub(super) fn add<const N: usize>(&mut self, labels: [&str; N], value: impl Into<Value>) {
        self.0.push(Sample {
            labels: labels.map(str::to_owned).into(),
            value: value.into(),
        });
    }

    /// One sample for each service: of metrics with the label `service`.
    pub(super) fn services<V: Into<Value>>(
        &mut self,
        observed: &Observed,
        value: impl Fn(&ObservedService) -> V,
    ) {
        for service in &observed.services {
            self.add([&service.name], value(service));
        }
    }

    /// One sample for each generation that has a value: of metrics with the labels `service` and
    /// `generation`.
    pub(super) fn generations<V: Into<Value>>(
        &mut self,
        observed: &Observed,
        value: impl Fn(&ObservedGeneration) -> Option<V>,
    ) {
        for service in &observed.services {
            for generation in &service.generations {
                if let Some(value) = value(generation) {
                    self.add([&service.name, &generation.name], value);
                }
            }
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<std::time::Duration> for Value {
    fn from(value: std::time::Duration) -> Self {
        Self::Real(value.as_secs_f64())
    }
}

impl From<Histogram> for Value {
    fn from(value: Histogram) -> Self {
        Self::Histogram(value)
    }
}
