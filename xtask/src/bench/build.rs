//! How long hotlb takes to build, and how large it is.

use std::{fs, time::Instant};

use anyhow::Result;

use crate::{command, project::Project};

/// The object with the kernel programs, as it is checked in.
const OBJECT: &str = "lb-ebpf/prebuilt/hotlb.bpf.o";

/// Builds it from nothing; lines as the benchmarks print them.
pub(super) fn measure(project: &Project) -> Result<Vec<String>> {
    let directory = project.metadata()?.target_directory.join("bench-build");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    let mut cargo = project.cargo();
    cargo.args([
        "build",
        "--release",
        "--package",
        "lb-userspace",
        "--bin",
        "hotlb",
    ]);
    cargo.arg("--target-dir").arg(&directory);
    let began = Instant::now();
    command::run(&mut cargo)?;
    let took = began.elapsed();
    let size = fs::metadata(directory.join("release/hotlb"))?.len();
    let programs = fs::metadata(project.path(OBJECT))?.len();
    fs::remove_dir_all(&directory)?;
    let lines = [
        "== Build".to_owned(),
        "From nothing, with all it is built of, by `cargo build --release`.".to_owned(),
        format!("figure\tbuild, seconds\t{}", took.as_secs()),
        format!("figure\thotlb, KiB\t{}", size / 1024),
        format!("figure\tkernel programs in it, KiB\t{}", programs / 1024),
    ];
    for line in &lines {
        println!("{line}");
    }
    Ok(lines.into())
}
