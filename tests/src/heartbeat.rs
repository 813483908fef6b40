//! What the machine itself did meanwhile: a thread on each CPU, before all other work, that notes when it was not let
//! run. Where a test is about what is usual, a second in which the host of a virtual machine had its CPUs for others is
//! not.

use std::{
    ops::Range,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use hotlb::clock;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, gettid},
};

use crate::report;

/// How often a heart beats.
const BEAT: Duration = Duration::from_millis(2);
/// Later than this is no delay of a timer.
const LATE: Duration = Duration::from_millis(5);

/// The hearts; they beat until it is dropped.
#[derive(Debug)]
pub struct Heartbeat {
    stop: Vec<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    stalls: Arc<Mutex<Vec<Stall>>>,
}

/// A time in which a CPU was away.
#[derive(Debug, Clone, Copy)]
struct Stall {
    /// Its end, in milliseconds since 1970.
    end_ms: i64,
    length: Duration,
}

impl Heartbeat {
    /// One for each CPU.
    pub fn start() -> Result<Self> {
        let mut heartbeat = Self {
            stop: Vec::new(),
            threads: Vec::new(),
            stalls: Arc::default(),
        };
        for cpu in 0..std::thread::available_parallelism()?.get() {
            let mut own = CpuSet::new();
            own.set(cpu)?;
            let (stop, stopped) = channel();
            let stalls = Arc::clone(&heartbeat.stalls);
            let thread = std::thread::Builder::new().name(format!("heart-{cpu}"));
            let thread = thread.spawn(move || {
                before_all();
                if sched_setaffinity(Pid::from_raw(0), &own).is_err() {
                    report::remark(format!("no heart beats on CPU {cpu}"));
                    return;
                }
                loop {
                    let began = Instant::now();
                    if stopped.recv_timeout(BEAT) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                    let length = began.elapsed().saturating_sub(BEAT);
                    if length > LATE {
                        let stall = Stall {
                            end_ms: clock::unix_millis(),
                            length,
                        };
                        let mut stalls = stalls.lock().unwrap_or_else(PoisonError::into_inner);
                        stalls.push(stall);
                    }
                }
            });
            heartbeat.stop.push(stop);
            heartbeat.threads.push(thread.context("a heart")?);
        }
        Ok(heartbeat)
    }

    /// How long CPUs were away within these milliseconds since 1970, all together.
    pub fn away(&self, span: Range<i64>) -> Duration {
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        let within = |stall: &&Stall| {
            let length = i64::try_from(stall.length.as_millis()).unwrap_or(i64::MAX);
            stall.end_ms >= span.start && stall.end_ms.saturating_sub(length) <= span.end
        };
        stalls.iter().filter(within).map(|stall| stall.length).sum()
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop.clear();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Gives the thread a priority above those of [`crate::priority::before_neighbours`].
fn before_all() {
    let mut chrt = Command::new("chrt");
    chrt.args(["--fifo", "--pid", "50", &gettid().to_string()]);
    if !chrt.output().is_ok_and(|output| output.status.success()) {
        report::remark("chrt gives no real-time priority: hearts are late for any neighbour");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_the_span_counts() {
        let heartbeat = Heartbeat {
            stop: Vec::new(),
            threads: Vec::new(),
            stalls: Arc::new(Mutex::new(vec![
                Stall {
                    end_ms: 1_000,
                    length: Duration::from_millis(100),
                },
                Stall {
                    end_ms: 2_000,
                    length: Duration::from_millis(30),
                },
            ])),
        };
        for (span, away) in [
            (0..800, 0),
            (0..950, 100),
            (950..960, 100),
            (1_001..1_900, 0),
            (0..3_000, 130),
        ] {
            assert_eq!(heartbeat.away(span), Duration::from_millis(away));
        }
    }
}
