//! Running a command to its end, with a deadline and both outputs kept.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::wait;

/// A command that ended.
#[derive(Debug, Clone)]
pub struct Run {
    /// The whole command line, for messages.
    pub line: String,
    /// The exit code; 128 + the signal when one ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Run {
    /// Fails with everything there is to know unless the command ended with 0.
    pub fn expect_success(self) -> Result<Self> {
        self.expect_code(0)
    }

    /// Fails with everything there is to know unless the command ended with `code`.
    pub fn expect_code(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "expected exit code {code}\n{}",
            self.describe()
        );
        Ok(self)
    }

    /// Fails unless stderr contains every one of `parts`.
    pub fn expect_stderr(self, parts: &[&str]) -> Result<Self> {
        for part in parts {
            ensure!(
                self.stderr.contains(part),
                "stderr does not name {part:?}\n{}",
                self.describe()
            );
        }
        Ok(self)
    }

    /// Fails unless stderr begins with one line of the form "hotlb: what happened; what to do"; lines after it must be
    /// indented.
    pub fn expect_one_line_error(self) -> Result<Self> {
        let mut lines = self.stderr.lines();
        let first = lines.next().unwrap_or_default();
        ensure!(
            first.starts_with("hotlb: "),
            "the error does not begin with `hotlb: `\n{}",
            self.describe()
        );
        ensure!(
            lines.all(|line| line.starts_with(' ')),
            "the error has more than one line\n{}",
            self.describe()
        );
        Ok(self)
    }

    /// Like [`Self::expect_one_line_error`] for a command that logs before it gives up, and whose threads may do so to
    /// its very end; the error must contain all of `parts`.
    pub fn expect_last_error(self, parts: &[&str]) -> Result<Self> {
        let begin = if self.stderr.starts_with("hotlb: ") {
            Some(0)
        } else {
            self.stderr.rfind("\nhotlb: ").map(|at| at + 1)
        };
        let error = begin.and_then(|begin| self.stderr.get(begin..));
        // A record of the log begins with its time.
        let is_record = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
        let lines = error.unwrap_or_default().lines();
        let error: Vec<&str> = lines.filter(|line| !is_record(line)).collect();
        let error = error.join("\n");
        let described = self.describe();
        let last = Self {
            stderr: error,
            ..self.clone()
        };
        last.expect_one_line_error()?
            .expect_stderr(parts)
            .with_context(|| described)?;
        Ok(self)
    }

    /// The command line, its end and its outputs.
    pub fn describe(&self) -> String {
        let Self {
            line,
            code,
            stdout,
            stderr,
            took,
        } = self;
        format!("$ {line}\nexit {code} after {took:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// Runs `command`; kills it and fails when it takes longer than `limit`.
pub fn run(command: &mut Command, limit: Duration) -> Result<Run> {
    start(command)?.finish(limit)
}

/// Starts `command` with both outputs kept.
pub fn start(command: &mut Command) -> Result<Running> {
    let line = describe(command);
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let started = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .spawn()
        .with_context(|| format!("start {line}"))?;
    Ok(Running {
        line,
        child,
        stdout,
        stderr,
        started,
    })
}

/// A command under way; killed on drop.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: std::process::Child,
    stdout: File,
    stderr: File,
    started: Instant,
}

impl Running {
    /// The pid of the command.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// True once the command has ended.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&mut self) -> Result<String> {
        contents(&mut self.stdout)
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&mut self) -> Result<String> {
        contents(&mut self.stderr)
    }

    /// Waits for its end; kills it and fails when that takes longer than `limit`.
    pub fn finish(mut self, limit: Duration) -> Result<Run> {
        let child = &mut self.child;
        let status = wait::until("the command ends", limit, || child.try_wait().transpose());
        let took = self.started.elapsed();
        let (stdout, stderr) = (contents(&mut self.stdout)?, contents(&mut self.stderr)?);
        let code = match status {
            Ok(status) => exit_code(status?),
            Err(error) => bail!(
                "{error}\n$ {}\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
                self.line
            ),
        };
        Ok(Run {
            line: self.line.clone(),
            code,
            stdout,
            stderr,
            took,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the child has been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

fn contents(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn outputs_and_code_are_kept() {
        let run = run(
            &mut shell("echo out; echo err >&2; exit 7"),
            Duration::from_secs(5),
        )
        .unwrap();
        assert_eq!(
            (run.code, run.stdout.as_str(), run.stderr.as_str()),
            (7, "out\n", "err\n")
        );
        run.clone().expect_code(7).unwrap();
        run.expect_success().unwrap_err();
    }

    #[test]
    fn a_command_that_hangs_is_an_error() {
        let error = run(
            &mut shell("echo begun; exec sleep 60"),
            Duration::from_millis(200),
        )
        .unwrap_err();
        assert!(error.to_string().contains("begun"));
    }
}
