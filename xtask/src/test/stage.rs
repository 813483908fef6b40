//! One run of `cargo test`, its output shown and counted as it comes.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader},
    iter,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    PACKAGES,
    measuring::{MEASURING, SIDE_BY_SIDE, measures},
    minutes,
    outcome::Outcome,
    quick::QUICK,
};
use crate::{project::Project, search_path};

/// After the end of cargo, output may still be on its way this long; a process that a test left
/// behind could hold the pipe open for ever.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// Between the polite and the hard end of a stage that is over its deadline.
const KILL_AFTER: &str = "--kill-after=20s";

/// A test that runs so long hangs: the others take a minute or two at most.
const SILENT: Duration = Duration::from_mins(10);

/// One run of `cargo test`.
#[derive(Debug)]
pub(super) struct Stage {
    name: &'static str,
    arguments: &'static [&'static str],
    packages: &'static [&'static str],
    /// What the test program is told of which tests to run.
    selection: Vec<&'static str>,
    environment: Vec<(&'static str, OsString)>,
}

/// The unit tests, which need nothing.
pub(super) const UNIT: [Stage; 2] = [
    Stage {
        name: "unit tests of xtask",
        arguments: &[],
        packages: &["--package", "xtask"],
        selection: Vec::new(),
        environment: Vec::new(),
    },
    Stage {
        name: "unit tests",
        // Programs have none (kept by lint): each would be built and linked once more.
        arguments: &["--release", "--lib"],
        packages: &PACKAGES,
        selection: Vec::new(),
        environment: Vec::new(),
    },
];

/// The integration tests, with the `hotlb` they run and the file they report to: first those that run side by side, then
/// those that measure.
pub(super) fn integration(hotlb: &Path, report: &Path) -> [Stage; 2] {
    let skipped = MEASURING.iter().flat_map(|name| ["--skip", name]);
    let beside = Stage {
        name: "integration tests, side by side",
        selection: skipped.collect(),
        ..alone(hotlb, report)
    };
    let measuring = Stage {
        name: "integration tests that measure",
        selection: MEASURING.to_vec(),
        ..alone(hotlb, report)
    };
    [beside.side_by_side(), measuring]
}

/// The integration tests whose names contain what is asked for, each alone.
pub(super) fn alone(hotlb: &Path, report: &Path) -> Stage {
    Stage {
        name: "integration tests",
        arguments: &["--release", "--test", "*"],
        packages: &PACKAGES,
        selection: Vec::new(),
        environment: vec![
            ("HOTLB_BIN", hotlb.into()),
            ("HOTLB_TEST_REPORT", report.into()),
            ("RUST_TEST_THREADS", "1".into()),
        ],
    }
}

/// The short form of [`integration`].
pub(super) fn quick(hotlb: &Path, report: &Path) -> [Stage; 2] {
    let (measuring, beside) = QUICK.into_iter().partition(|test| measures(test));
    let stage = |name, tests: Vec<_>| Stage {
        name,
        arguments: &["--release", "--test", "it"],
        selection: iter::once("--exact").chain(tests).collect(),
        ..alone(hotlb, report)
    };
    [
        stage("quick integration tests, side by side", beside).side_by_side(),
        stage("quick integration tests that measure", measuring),
    ]
}

/// What comes from a running stage.
enum Message {
    Line(String),
    Ended(io::Result<ExitStatus>),
}

impl Stage {
    fn side_by_side(mut self) -> Self {
        let several = [
            ("RUST_TEST_THREADS", SIDE_BY_SIDE.into()),
            // Read by `tests/src/turn.rs`.
            ("HOTLB_TEST_SIDE_BY_SIDE", "1".into()),
        ];
        // Of two values of one name, a command takes the latter.
        self.environment.extend(several);
        self
    }

    /// Runs the tests whose name contains `filter`, for at most `deadline` minutes.
    pub(super) fn run(
        &self,
        project: &Project,
        filter: Option<&str>,
        deadline: Option<u32>,
    ) -> Result<Outcome> {
        println!("\n== {}", self.name);
        let mut command = self.command(project, deadline);
        command.args(filter);
        if !self.selection.is_empty() {
            command.arg("--").args(&self.selection);
        }
        let child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("cargo did not start")?;
        let began = Instant::now();
        // Only `timeout` hands on to the tests that they are to end.
        let watched = deadline.map(|_| Pid::from_child(&child));
        let outcome = self.follow(&listen(child)?, watched.map(|pid| (pid, SILENT)));
        println!("{}: {}", self.name, minutes(began));
        outcome
    }

    fn command(&self, project: &Project, deadline: Option<u32>) -> Command {
        let mut command = match deadline {
            None => Command::new("cargo"),
            Some(minutes) => {
                let mut timeout = Command::new("timeout");
                timeout.args([KILL_AFTER, &format!("{minutes}m"), "cargo"]);
                timeout
            }
        };
        command
            .current_dir(project.root())
            .env("PATH", search_path::joined());
        command
            .args(["test", "--no-fail-fast"])
            .args(self.arguments)
            .args(self.packages);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Shows and counts the output until cargo has ended and its output has been read. A process to watch is ended once
    /// its tests have been silent for so long.
    fn follow(
        &self,
        messages: &Receiver<Message>,
        mut watched: Option<(Pid, Duration)>,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut ended = None;
        let mut tests_run = false;
        loop {
            let limit = match (&ended, watched) {
                (Some(_), _) => Some(LAST_OUTPUT),
                (None, Some((_, silent))) if tests_run => Some(silent),
                (None, _) => None,
            };
            match next(messages, limit) {
                Ok(Message::Line(line)) => {
                    println!("{line}");
                    // Before that, cargo builds.
                    tests_run |= line.starts_with("running ");
                    outcome.line(&line);
                }
                Ok(Message::Ended(status)) => ended = Some(status?),
                Err(RecvTimeoutError::Timeout) if ended.is_none() => {
                    if let Some((pid, silent)) = watched.take() {
                        let trouble = format!("{}: silent for {silent:?}; stopped", self.name);
                        println!("test: {trouble}");
                        outcome.troubles(iter::once(trouble));
                        // It may have ended this moment.
                        let _over = kill_process(pid, Signal::TERM);
                    }
                }
                Err(_) => break,
            }
        }
        let status = ended.context("cargo's end was not seen")?;
        outcome.end(self.name, status.success(), &status.to_string());
        Ok(outcome)
    }
}

/// The next message, waited for until a limit.
fn next(
    messages: &Receiver<Message>,
    limit: Option<Duration>,
) -> Result<Message, RecvTimeoutError> {
    match limit {
        Some(limit) => messages.recv_timeout(limit),
        None => messages.recv().map_err(RecvTimeoutError::from),
    }
}

/// Has two threads wait, one for output and one for the end.
fn listen(mut child: Child) -> Result<Receiver<Message>> {
    let (output, messages) = mpsc::channel();
    let end = output.clone();
    let stdout = BufReader::new(child.stdout.take().context("cargo has no output")?);
    thread::spawn(move || read(stdout, &output));
    thread::spawn(move || end.send(Message::Ended(child.wait())));
    Ok(messages)
}

/// Ends with the output, or when nobody listens any more.
fn read(mut output: impl BufRead, messages: &Sender<Message>) {
    let mut line = Vec::new();
    while output
        .read_until(b'\n', &mut line)
        .is_ok_and(|length| length > 0)
    {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if messages.send(Message::Line(text)).is_err() {
            return;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        command.spawn().unwrap()
    }

    fn shell(script: &str) -> Receiver<Message> {
        listen(start(script)).unwrap()
    }

    fn stage() -> Stage {
        let [stage, ..] = UNIT;
        stage
    }

    #[test]
    fn output_is_counted_and_failure_noticed() {
        let good = shell("echo 'test result: ok. 2 passed; 0 failed; 0 ignored'");
        stage().follow(&good, None).unwrap().verdict().unwrap();
        let bad = shell("echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit 101");
        stage().follow(&bad, None).unwrap().verdict().unwrap_err();
    }

    #[test]
    fn a_process_left_behind_does_not_hold_the_stage_up() {
        let started = Instant::now();
        let messages = shell("sleep 8 & echo 'test result: ok. 1 passed; 0 failed; 0 ignored'");
        stage().follow(&messages, None).unwrap().verdict().unwrap();
        assert!(started.elapsed() < Duration::from_secs(6));
    }

    #[test]
    fn a_test_that_hangs_is_stopped_and_named() {
        let child = start("echo running 2 tests; printf 'test drain::one ... '; exec sleep 60");
        let watched = (Pid::from_child(&child), Duration::from_millis(300));
        let started = Instant::now();
        let outcome = stage().follow(&listen(child).unwrap(), Some(watched));
        assert!(started.elapsed() < Duration::from_secs(6));
        let shown = format!("{:?}", outcome.unwrap());
        assert!(shown.contains("silent for 300ms"), "{shown}");
        assert!(shown.contains(", in drain::one"), "{shown}");
    }

    #[test]
    fn a_deadline_goes_through_timeout() {
        let project = Project::find().unwrap();
        let command = stage().command(&project, Some(3));
        let words: Vec<_> = command.get_args().take(3).collect();
        assert_eq!(
            (command.get_program(), words),
            (
                "timeout".as_ref(),
                vec![
                    KILL_AFTER.as_ref(),
                    "3m".as_ref(),
                    std::ffi::OsStr::new("cargo"),
                ]
            )
        );
    }
}
