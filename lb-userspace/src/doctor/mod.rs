//! `hotlb doctor`: what this host can do for hotlb, what is missing, and what that costs.
//!
//! Each file here looks at one part of the host (`gather`) and judges what it saw (`check`, which
//! is pure). Nothing is mounted, made, attached or left behind.

mod bpf;
mod directories;
mod finding;
mod kernel;
mod mounts;
mod outputs;
mod programs;
mod rights;
mod sampling;
mod sockets;
mod sysctls;
mod table;

use std::process::ExitCode;

use crate::{cli::Printer, config::Places};
use finding::Finding;

/// Checks the host and says what was found. The exit code is 0 if hotlb can work, 7 if something
/// needed is missing, 4 if this user may not look at something needed, 1 if nobody reads.
pub fn run(places: &Places, printer: &Printer) -> ExitCode {
    let findings = examine(places);
    match printer.value(&findings, || table::text(&findings)) {
        Ok(()) => ExitCode::from(finding::exit(&findings)),
        Err(error) => {
            printer.unread(&error);
            ExitCode::FAILURE
        }
    }
}

fn examine(places: &Places) -> Vec<Finding> {
    let rights = rights::Rights::gather();
    let kernel = kernel::Kernel::gather();
    let bpf = bpf::Bpf::gather();
    let mut findings = kernel::check(&kernel, bpf.steer());
    findings.extend(rights::check(&rights));
    findings.extend(bpf::check(&bpf, &kernel, &rights));
    findings.extend(mounts::check(
        &mounts::Mounts::gather(places),
        &kernel,
        &rights,
    ));
    findings.push(sockets::check(&sockets::Sockets::gather()));
    findings.extend(directories::check(
        &directories::Directories::gather(places),
        places,
        &rights,
    ));
    findings.push(programs::check(&programs::Programs::gather(places)));
    findings.push(outputs::check(outputs::Outputs::gather(), &rights));
    findings.push(sampling::check(&sampling::Sampling::gather()));
    findings.extend(sysctls::check(&sysctls::Sysctls::gather()));
    findings
}
