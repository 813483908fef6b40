//! `cargo xtask bench`: what hotlb costs and what it gives. A whole run writes docs/develop/benchmarks.md.

mod build;
mod machine;
mod page;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::page::Page;
use crate::{demo, project::Project};

const PAGE: &str = "docs/develop/benchmarks.md";

/// The arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Fewer rounds; nothing is written
    #[arg(long)]
    quick: bool,
    /// Only this part, such as steer, throughput or upgrades, and nothing is written; another word lists them
    part: Option<String>,
}

/// Measures, shows what is measured, and writes it down if it is all there is.
pub(crate) fn run(arguments: &Arguments, project: &Project) -> Result<()> {
    let mut bench = demo::built(project, "bench")?;
    bench.args(arguments.quick.then_some("--quick"));
    bench.args(&arguments.part);
    if arguments.quick || arguments.part.is_some() {
        return crate::command::run(&mut bench);
    }
    // What is measured, not what is edited meanwhile.
    let machine = machine::describe(project)?;
    let began = Instant::now();
    let mut lines = build::measure(project)?;
    let measured = shown(&mut bench, &mut lines);
    let page = Page {
        machine,
        minutes: began.elapsed().as_secs() / 60,
        lines,
    };
    fs::write(project.path(PAGE), page.render()).with_context(|| format!("write {PAGE}"))?;
    println!("{PAGE} is written");
    measured
}

/// Shows what the program prints, and keeps it.
fn shown(program: &mut Command, lines: &mut Vec<String>) -> Result<()> {
    let mut child = program.stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("its output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        lines.push(line);
    }
    let status = child.wait()?;
    ensure!(status.success(), "the benchmarks failed: {status}");
    Ok(())
}
