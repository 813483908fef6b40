//! `hotlb doctor`.

use std::process::ExitCode;

use crate::{cli::Printer, config::Places};

/// Checks the host.
pub fn run(_places: &Places, _printer: &Printer) -> ExitCode {
    ExitCode::SUCCESS
}
