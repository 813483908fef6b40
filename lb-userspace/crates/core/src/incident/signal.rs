//! What of a window is compared.

use super::Window;

/// A value of a window that is compared with others of its kind, on a logarithmic scale: twice as
/// long is as far from usual for 2 ms as for 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Curve {
    /// The middle service time.
    Service50,
    /// Nine of ten requests were answered in it.
    Service90,
    /// 99 of 100 were.
    Service99,
    /// The middle queue wait.
    Wait50,
    /// Nine of ten connections were read from in it.
    Wait90,
    /// 99 of 100 were.
    Wait99,
    /// Connections in the accept queue.
    Queue,
    /// CPU time.
    Cpu,
    /// CPU time for a request or connection.
    CpuEach,
}

/// How many there are.
pub(super) const CURVES: usize = 9;

/// So many values make a median worth something, a ninth decile, and a 99th part.
const FOR_HALF: u64 = 10;
const FOR_NINTH: u64 = 20;
const FOR_99TH: u64 = 40;
/// Of fewer than that the 99th part is the slowest one alone: it counts half.
const SURE_99TH: u64 = 200;
/// What is added to times before their logarithm: what is shorter than a millisecond is nobody's
/// trouble, whatever it is a multiple of.
const SHORT_US: f64 = 1_000.0;
const SHORT_CPU_US: f64 = 200.0;
/// CPU time of a second that is nobody's trouble.
const LITTLE_CPU_US: f64 = 20_000.0;
/// Connections that may wait to be accepted at any moment.
const SHORT_QUEUE: f64 = 24.0;

impl Curve {
    /// All of them, in their order.
    pub(super) const ALL: [Self; CURVES] = [
        Self::Service50,
        Self::Service90,
        Self::Service99,
        Self::Wait50,
        Self::Wait90,
        Self::Wait99,
        Self::Queue,
        Self::Cpu,
        Self::CpuEach,
    ];

    /// The value, where the window has enough of what it is of.
    pub(super) fn of(self, window: &Window) -> Option<f64> {
        let time = |us: u64, count: u64, enough: u64| {
            (count >= enough).then(|| (float(us) + SHORT_US).ln())
        };
        let (service, wait) = (window.service, window.wait);
        match self {
            Self::Service50 => time(service.p50, service.count, FOR_HALF),
            Self::Service90 => time(service.p90, service.count, FOR_NINTH),
            Self::Service99 => time(service.p99, service.count, FOR_99TH),
            Self::Wait50 => time(wait.p50, wait.count, FOR_HALF),
            Self::Wait90 => time(wait.p90, wait.count, FOR_NINTH),
            Self::Wait99 => time(wait.p99, wait.count, FOR_99TH),
            Self::Queue => Some((float(u64::from(window.queue)) + SHORT_QUEUE).ln()),
            Self::Cpu => window.cpu_us.map(|us| (float(us) + LITTLE_CPU_US).ln()),
            Self::CpuEach => {
                let each = float(window.cpu_us?) / float(window.load());
                (window.load() >= FOR_HALF).then(|| (each + SHORT_CPU_US).ln())
            }
        }
    }

    /// How much an excess of the window's value counts.
    pub(super) const fn weight(self, window: &Window) -> f64 {
        let count = match self {
            Self::Service99 => window.service.count,
            Self::Wait99 => window.wait.count,
            _ => SURE_99TH,
        };
        if count < SURE_99TH { 0.5 } else { 1.0 }
    }

    /// The value of a window that had it, as it was before the logarithm: microseconds, or
    /// connections.
    pub(super) fn plain(self, value: f64) -> f64 {
        let added = match self {
            Self::Queue => SHORT_QUEUE,
            Self::Cpu => LITTLE_CPU_US,
            Self::CpuEach => SHORT_CPU_US,
            _ => SHORT_US,
        };
        (value.exp() - added).max(0.0)
    }

    /// In words.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Service50 => "service time p50",
            Self::Service90 => "service time p90",
            Self::Service99 => "service time p99",
            Self::Wait50 => "queue wait p50",
            Self::Wait90 => "queue wait p90",
            Self::Wait99 => "queue wait p99",
            Self::Queue => "accept queue",
            Self::Cpu => "CPU time",
            Self::CpuEach => "CPU time per request",
        }
    }
}

/// Counts are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}
