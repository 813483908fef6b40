//! One second of a generation.

use std::time::Duration;

use hotlb_values::{ConnectionCounts, Histogram};
use serde::{Deserialize, Serialize};

/// What was counted of a generation since it began, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// When, since the host was started.
    pub at: Duration,
    /// Its connections.
    pub connections: ConnectionCounts,
    /// From the handshake to the first byte that the server reads.
    pub queue_wait: Histogram,
    /// From the first byte of a request to the first byte of its answer.
    pub service_time: Histogram,
    /// CPU time of its processes; `None` where the cgroup does not say.
    pub cpu: Option<Duration>,
    /// Handshakes its listeners dropped.
    pub dropped: u64,
    /// Connections in its accept queues now.
    pub queue: u32,
}

/// What happened between two readings. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long it is.
    pub took_ms: u64,
    /// Connections opened.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Connections open at the end.
    pub live: u64,
    /// Connections lost, the server's side being to blame.
    pub lost: u64,
    /// Connections whose clients left before their answer.
    pub abandoned: u64,
    /// Requests answered.
    pub requests: u64,
    /// How long new connections waited for the server's first read.
    pub wait: Quantiles,
    /// How long requests waited for their answer.
    pub service: Quantiles,
    /// CPU time used.
    pub cpu_us: Option<u64>,
    /// Handshakes dropped.
    pub dropped: u64,
    /// Connections in the accept queues at the end.
    pub queue: u32,
    /// Connections that wait at the end: with bytes that the server has not read, or not answered
    /// for half a second, or that it has not accepted; counted only when far fewer requests than usual were answered.
    pub unread: Option<u32>,
}

/// What so many parts of the values do not exceed, in microseconds; 0 without values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many values.
    pub count: u64,
    /// Half of them.
    pub p50: u64,
    /// Nine of ten.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
}

impl Quantiles {
    fn of(histogram: &Histogram) -> Self {
        let quantile = |part| histogram.quantile(part).map_or(0, micros);
        let count = histogram.count();
        if count == 0 {
            return Self::default();
        }
        Self {
            count,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
        }
    }
}

impl Window {
    /// What happened from `before` to `after`, which was at `at_ms`.
    pub fn between(before: &Reading, after: &Reading, at_ms: i64) -> Self {
        let (first, last) = (&before.connections, &after.connections);
        let more = |count: fn(&ConnectionCounts) -> u64| count(last).saturating_sub(count(first));
        let took = after.at.saturating_sub(before.at);
        let service = after.service_time.since(&before.service_time);
        let cpu = |before: Duration, after: Duration| micros(after.saturating_sub(before));
        Self {
            at_ms,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            opened: more(|counts| counts.opened + counts.moved_in),
            closed: more(|counts| counts.closed + counts.moved_out),
            live: last.live,
            lost: more(|counts| counts.lost.sum()),
            abandoned: more(|counts| counts.lost.abandoned),
            requests: service.count(),
            wait: Quantiles::of(&after.queue_wait.since(&before.queue_wait)),
            service: Quantiles::of(&service),
            cpu_us: before.cpu.zip(after.cpu).map(|(b, a)| cpu(b, a)),
            dropped: after.dropped.saturating_sub(before.dropped),
            queue: after.queue,
            unread: None,
        }
    }

    /// How much it had to do: requests answered and connections opened.
    pub const fn load(&self) -> u64 {
        self.requests + self.opened
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
