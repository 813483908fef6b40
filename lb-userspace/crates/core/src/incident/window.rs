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

/// About one second of a generation. Times end in `_us` (microseconds) or `_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Window {
    /// When the window ended, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long the window is.
    pub took_ms: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Connections that were open at its end.
    pub live: u64,
    /// Connections that the server's side lost.
    pub lost: u64,
    /// Connections that clients closed before their response.
    pub abandoned: u64,
    /// Requests that the server answered.
    pub requests: u64,
    /// How long new connections waited for the server's first read, in microseconds.
    pub wait: Quantiles,
    /// How long requests waited for their response, in microseconds.
    pub service: Quantiles,
    /// CPU time that its processes used; `null` where the cgroup does not say.
    pub cpu_us: Option<u64>,
    /// Handshakes that its listeners dropped.
    pub dropped: u64,
    /// Connections in its accept queues at the end.
    pub queue: u32,
    /// Connections that wait at the end: with bytes that the server has not read, or not answered for half a second,
    /// or that it has not accepted. hotlb counts them only when the server answered far fewer requests than usual;
    /// otherwise `null`.
    pub unread: Option<u32>,
}

/// Quantiles in microseconds; 0 without values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "WindowQuantiles")
)]
pub struct Quantiles {
    /// How many values there are.
    pub count: u64,
    /// Half of them do not exceed this.
    pub p50: u64,
    /// 90 % of them do not exceed this.
    pub p90: u64,
    /// 99 % of them do not exceed this.
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
