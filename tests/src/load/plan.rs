//! What a load does, and where it ends.

use std::{net::SocketAddr, time::Duration};

use crate::patience;

/// A request slower than this has lost a packet: a SYN or ACK that is sent again shows as a second or more.
pub const SLOW: Duration = Duration::from_millis(250);

/// How connections are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// A new connection for each request, `Connection: close`.
    Never,
    /// One connection for as many requests as the server allows.
    KeepAlive,
}

/// A closed loop.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who is asked.
    pub target: SocketAddr,
    /// The path asked for.
    pub path: String,
    /// Requests under way at a time.
    pub workers: usize,
    /// How connections are used.
    pub reuse: Reuse,
    /// The least time from one request of a worker to its next; `None`: as fast as it is answered.
    pub each: Option<Duration>,
    /// Most requests in all.
    pub max_requests: u64,
    /// Longest time in all.
    pub max_duration: Duration,
    /// Time for one request, from connecting to the last byte.
    pub deadline: Duration,
}

impl Plan {
    /// 32 workers with a new connection for each request, for at most a million requests or three minutes.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            path: "/".to_owned(),
            workers: 32,
            reuse: Reuse::Never,
            each: None,
            max_requests: 1_000_000,
            max_duration: patience::of(Duration::from_mins(3)),
            deadline: patience::of(Duration::from_secs(10)),
        }
    }

    /// The same with another number of workers.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// The same with connections kept.
    #[must_use]
    pub fn keep_alive(self) -> Self {
        Self {
            reuse: Reuse::KeepAlive,
            ..self
        }
    }

    /// The same where a worker asks once in this time: a load beside which the CPUs have time for others.
    #[must_use]
    pub fn each(self, time: Duration) -> Self {
        Self {
            each: Some(time),
            ..self
        }
    }

    /// The same with at most `count` requests.
    #[must_use]
    pub fn max_requests(self, count: u64) -> Self {
        Self {
            max_requests: count,
            ..self
        }
    }
}
