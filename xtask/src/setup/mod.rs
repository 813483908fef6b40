//! `cargo xtask setup`: finds or installs what the project needs on a Debian machine, and says in
//! one line each what it found, installed or could not get and what that costs.

mod apt;
mod autostart;
mod machines;
mod outcome;
mod servers;
mod toolchain;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use self::{apt::Apt, outcome::Line};

/// The arguments of `cargo xtask setup`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only what this needs; without it, what the first two need
    #[arg(long = "for", value_name = "PURPOSE")]
    purpose: Option<Purpose>,
}

/// What the machine is to be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Purpose {
    /// Running the tests
    Test,
    /// Building the kernel programs
    Ebpf,
    /// Booting other kernels; never without being asked for
    Vm,
}

/// Does what `arguments` ask for. Fails when the tests cannot run, or when the kernel programs
/// cannot be built although that was asked for by name.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut apt = Apt::default();
    let mut lacking = Vec::new();
    if arguments.purpose == Some(Purpose::Vm) {
        lacking.extend(tell(servers::provide(&machines::PROGRAMS, &mut apt)));
    }
    if matches!(arguments.purpose, None | Some(Purpose::Test)) {
        lacking.extend(tell(servers::provide(&servers::PROGRAMS, &mut apt)));
    }
    if matches!(arguments.purpose, None | Some(Purpose::Ebpf)) {
        let asked_for = arguments.purpose == Some(Purpose::Ebpf);
        lacking.extend(
            tell(toolchain::provide(&mut apt))
                .into_iter()
                .filter(|_| asked_for),
        );
    }
    if !lacking.is_empty() {
        bail!("setup: cannot do without {}", lacking.join(", "));
    }
    Ok(())
}

/// What the tests need, as `cargo xtask test` begins.
pub(crate) fn for_tests() -> Result<()> {
    run(&Arguments {
        purpose: Some(Purpose::Test),
    })
}

/// What `cargo xtask vm` needs: an emulator, and what the tests run in the machine, which sees this one's files.
pub(crate) fn for_machines() -> Result<()> {
    for_tests()?;
    run(&Arguments {
        purpose: Some(Purpose::Vm),
    })
}

/// Shows the lines; gives the names of what is needed and missing.
fn tell(lines: Vec<Line>) -> Vec<String> {
    for line in &lines {
        println!("setup: {line}");
    }
    lines.into_iter().filter_map(Line::into_lacking).collect()
}
