//! wrk: a closed loop of requests on kept connections.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use crate::{locate, netns::Netns, process::Process};

/// Longer than any test: wrk is told when to stop.
const LONGEST: &str = "600s";
/// How long wrk may take to stop.
const LIMIT: Duration = Duration::from_secs(20);

/// A running wrk.
#[derive(Debug)]
pub struct Wrk {
    process: Process,
}

/// What wrk counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrkOutcome {
    /// Complete responses.
    pub requests: u64,
    /// Connects, reads and writes that failed, and requests that took longer than two seconds.
    pub socket_errors: u64,
    /// Responses with a status that is neither 2xx nor 3xx.
    pub bad_status: u64,
}

/// Why it cannot run here, if so.
pub fn missing() -> Option<&'static str> {
    locate::program("wrk")
        .is_none()
        .then_some("wrk is not installed")
}

impl Wrk {
    /// Starts so many kept connections to `target` from inside the namespace.
    pub fn start(netns: &Netns, target: SocketAddr, connections: u32) -> Result<Self> {
        let binary = locate::program("wrk").context("wrk is not installed")?;
        let log = tempfile::NamedTempFile::new()?.into_temp_path().keep()?;
        let mut command = netns.command(binary);
        command.args(["-t2", "-d", LONGEST, "-c"]);
        command.arg(connections.to_string());
        command.arg(format!("http://{target}/"));
        let process = Process::start(&mut command, &log)?;
        Ok(Self { process })
    }

    /// Stops it and reads what it counted.
    pub fn stop(mut self) -> Result<WrkOutcome> {
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(LIMIT)?;
        let log = self.process.log();
        self.process.remove_log();
        parse(&log).with_context(|| format!("wrk said:\n{log}"))
    }
}

fn parse(text: &str) -> Result<WrkOutcome> {
    let mut outcome = WrkOutcome::default();
    let mut counted = false;
    for line in text.lines().map(str::trim) {
        if let Some((requests, _)) = line.split_once(" requests in ") {
            outcome.requests = requests.parse()?;
            counted = true;
        } else if let Some(errors) = line.strip_prefix("Socket errors:") {
            for word in errors.split([' ', ',']) {
                outcome.socket_errors += word.parse::<u64>().unwrap_or_default();
            }
        } else if let Some(bad) = line.strip_prefix("Non-2xx or 3xx responses:") {
            outcome.bad_status = bad.trim().parse()?;
        }
    }
    ensure!(counted, "it counted no requests");
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_prints() {
        let text = "Running 1s test @ http://127.0.0.1:8080/\n  2 threads and 64 connections\n  \
                    1234 requests in 1.10s, 1.00MB read\n  \
                    Socket errors: connect 1, read 20, write 3, timeout 400\n  \
                    Non-2xx or 3xx responses: 7\nRequests/sec: 1.00\n";
        let expected = WrkOutcome {
            requests: 1234,
            socket_errors: 424,
            bad_status: 7,
        };
        assert_eq!(parse(text).unwrap(), expected);
        parse("unable to connect").unwrap_err();
    }
}
