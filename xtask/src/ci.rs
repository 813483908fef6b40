//! `cargo xtask ci`: everything that must hold before a change goes in.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{ebpf, lint, project::Project, test};

/// No stage of the tests comes near this many minutes unless it hangs.
const STAGE_DEADLINE: u32 = 65;

/// It says itself how long its parts took, before its total.
const TEST: &str = "test";

/// Runs lint, the checks of the kernel programs and all tests, whatever failed before. The tests
/// come last, so that their total is the last line.
pub(crate) fn run(project: &Project) -> Result<()> {
    let mut failed = Vec::new();
    let mut note = |name, work: &dyn Fn() -> Result<()>| {
        let began = Instant::now();
        if let Err(error) = work() {
            println!("ci: {name}: {error:#}");
            failed.push(format!("{name}: {error:#}"));
        } else if name != TEST {
            println!("ci: {name}: {}", test::minutes(began));
        }
    };
    note("lint", &|| lint::run(project));
    note("ebpf check", &|| ebpf::check(project));
    note("verifier", &|| {
        ebpf::verifier::run(ebpf::verifier::Arguments::default(), project)
    });
    note(TEST, &|| {
        test::run(&test::Arguments::all_within(STAGE_DEADLINE), project)
    });
    if !failed.is_empty() {
        bail!("ci failed:\n  {}", failed.join("\n  "));
    }
    Ok(())
}
