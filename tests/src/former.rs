//! A former release of hotlb, built from the repository's own history: what is on hosts that upgrade.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::{locate, report};

/// The commit whose services are taken over: layout 5.
pub const COMMIT: &str = "f4d529e";

/// The variable that names a program to take instead of building one.
pub const VARIABLE: &str = "HOTLB_F4D529E";

/// hotlb of [`COMMIT`]. It is built once for each directory that cargo builds in, with the libraries that are there
/// already.
pub fn hotlb() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return Ok(path.into());
    }
    let profile = locate::profile_directory()?;
    let name = format!("hotlb-{COMMIT}");
    let built = profile.join(&name);
    let lock = File::create(profile.join(format!("{name}.lock")))?;
    let _turn = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    if !built.exists() {
        report::remark(format!("building hotlb of {COMMIT}, once"));
        let target = profile.parent().context("a profile is in a directory")?;
        let sources = target.join("former").join(COMMIT);
        unpack(&sources)?;
        rename(&sources.join("lb-userspace/Cargo.toml"), &name)?;
        build(&sources, target, &profile, &name)?;
    }
    ensure!(built.exists(), "cargo did not make {}", built.display());
    Ok(built)
}

fn unpack(sources: &Path) -> Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if sources.exists() {
        fs::remove_dir_all(sources)?;
    }
    fs::create_dir_all(sources)?;
    let mut archive = Command::new("git")
        .arg("-c")
        .arg("safe.directory=*")
        .arg("-C")
        .arg(&repository)
        .args(["archive", COMMIT])
        .stdout(Stdio::piped())
        .spawn()
        .context("git archive")?;
    let stream = archive.stdout.take().context("git has no stdout")?;
    let unpacked = Command::new("tar")
        .args(["-x", "-C"])
        .arg(sources)
        .stdin(stream)
        .status()
        .context("tar")?;
    ensure!(
        archive.wait()?.success() && unpacked.success(),
        "the history of {} does not have commit {COMMIT}: the test needs a whole clone (git fetch --unshallow), or \
         {VARIABLE}=PROGRAM",
        repository.display()
    );
    Ok(())
}

/// Its program must not take the place of the one under test.
fn rename(manifest: &Path, name: &str) -> Result<()> {
    let text = fs::read_to_string(manifest)?;
    let renamed = text.replace(
        "[[bin]]\nname = \"hotlb\"",
        &format!("[[bin]]\nname = \"{name}\""),
    );
    ensure!(text != renamed, "{} has no program", manifest.display());
    fs::write(manifest, renamed)?;
    Ok(())
}

fn build(sources: &Path, target: &Path, profile: &Path, name: &str) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--locked", "-p", "lb-userspace", "--bin", name])
        .arg("--target-dir")
        .arg(target)
        .current_dir(sources)
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    let release = profile.ends_with("release");
    if release {
        // What it does is in the kernel; compiled as it is shipped it would take minutes.
        command.arg("--release");
        for package in ["lb-userspace", "lb-common"] {
            command.args([
                "--config",
                &format!("profile.release.package.{package}.opt-level=0"),
            ]);
        }
    }
    let run = command.output().context("cargo build")?;
    ensure!(
        run.status.success(),
        "hotlb of {COMMIT} cannot be built:\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
    Ok(())
}
