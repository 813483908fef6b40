//! Finds the binaries the tests run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The binary under test: `HOTLB_BIN`, else `hotlb` among what cargo built, the optimised one first.
pub fn hotlb() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HOTLB_BIN") {
        return Ok(path.into());
    }
    let profile = profile_directory()?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let places = [
        profile.join("../release/hotlb"),
        profile.join("hotlb"),
        workspace.join("release/hotlb"),
    ];
    let found = places.into_iter().find(|path| path.exists());
    found.context(
        "there is no hotlb binary: run `cargo build --release -p lb-userspace`, or set HOTLB_BIN",
    )
}

/// The server of the tests that sets no `SO_REUSEPORT`.
pub fn plain_server() -> Result<PathBuf> {
    own("plain-server")
}

/// The server of the tests that speaks gRPC.
pub fn grpc_server() -> Result<PathBuf> {
    own("grpc-server")
}

/// The server of the tests that sends what is written down for it.
pub fn script_server() -> Result<PathBuf> {
    own("script-server")
}

/// The server of the tests whose CPU time is in three functions.
pub fn split_server() -> Result<PathBuf> {
    own("split-server")
}

/// The server of the tests that goes wrong when it is told to.
pub fn trouble_server() -> Result<PathBuf> {
    own("trouble-server")
}

/// The server of the tests that answers datagrams.
pub fn udp_server() -> Result<PathBuf> {
    own("udp-server")
}

/// The server of the tests that speaks QUIC.
pub fn quic_server() -> Result<PathBuf> {
    own("quic-server")
}

/// The server of the tests with several workers.
pub fn worker_server() -> Result<PathBuf> {
    own("worker-server")
}

/// The server of the tests that does what it can to its supervisor.
pub fn hostile_server() -> Result<PathBuf> {
    own("hostile-server")
}

fn own(name: &str) -> Result<PathBuf> {
    let path = profile_directory()?.join(name);
    anyhow::ensure!(
        path.exists(),
        "there is no {}: run `cargo build -p hotlb-tests --bins`",
        path.display()
    );
    Ok(path)
}

/// A program of the system, looked up as the shell does.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// The directory of this build's profile: the test executable lies in `deps` below it.
pub(crate) fn profile_directory() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let directory = executable
        .parent()
        .context("the test executable lies nowhere")?;
    let directory = if directory.ends_with("deps") {
        directory.parent()
    } else {
        Some(directory)
    };
    Ok(directory
        .context("the test executable lies at the root")?
        .to_owned())
}
