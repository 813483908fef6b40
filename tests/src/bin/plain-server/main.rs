//! `plain-server`: a server of the tests that does nothing for its own upgrade. It sets no `SO_REUSEPORT`, listens
//! where it is told, answers with its name, and on SIGTERM stops accepting, finishes what it has accepted and exits.
//! Its flags make it misbehave in every way a readiness check must notice.

mod arguments;
mod connection;
mod server;
mod sockets;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser as _;
use nix::unistd::{Gid, Uid, setgid, setuid};

use self::arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    complain(arguments.stderr_lines);
    if let Some(code) = arguments.exit_at_once {
        return ExitCode::from(code);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(uid) = arguments.uid {
        setgid(Gid::from_raw(uid))?;
        setuid(Uid::from_raw(uid))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(arguments.threads)
        .enable_all()
        .build()?;
    let result = runtime.block_on(server::serve(arguments));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

fn complain(lines: u32) {
    for number in 1..=lines {
        say(&format!("complaint {number}"));
    }
}

#[expect(clippy::print_stderr, reason = "stderr is where a server complains")]
fn say(text: &str) {
    eprintln!("plain-server: {text}");
}
