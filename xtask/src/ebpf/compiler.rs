//! Makes the same object out of the same sources on every machine.
//!
//! Two things of the machine would show in it: directories, in the line information; and the
//! identity that cargo gives a crate (`-C metadata`), in symbol names, as cargo derives it from
//! the place of the sources among others. So cargo calls this program in place of the compiler
//! (`RUSTC_WRAPPER`), and this program calls the compiler with each crate's name and version for
//! both. It also sees to it that bpf-linker loads one known LLVM.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

/// Set while cargo calls this program: the directory with bpf-linker's LLVM.
const LLVM: &str = "HOTLB_XTASK_LLVM";
/// What a kernel program is built for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Makes `cargo` call this program in place of its compiler.
pub(crate) fn put_between(cargo: &mut Command, llvm: &Path) -> Result<()> {
    let this = env::current_exe().context("the path of this program")?;
    cargo.env("RUSTC_WRAPPER", this).env(LLVM, llvm);
    Ok(())
}

/// If cargo calls this program as its compiler: becomes the compiler. Comes back with an exit code
/// only when that fails.
pub(crate) fn called_by_cargo() -> Option<ExitCode> {
    let llvm = env::var_os(LLVM)?;
    let error = become_compiler(&llvm);
    eprintln!("xtask, as a compiler: {error}");
    Some(ExitCode::FAILURE)
}

fn become_compiler(llvm: &OsStr) -> io::Error {
    let mut arguments = env::args_os().skip(1);
    let Some(compiler) = arguments.next() else {
        return io::Error::other("no compiler named");
    };
    let mut command = Command::new(compiler);
    let arguments: Vec<_> = arguments.collect();
    if is_for_kernel(&arguments) {
        let (identity, directory) = package();
        command.args(with_identity(arguments, &identity));
        command.arg(format!("--remap-path-prefix={directory}={identity}"));
        command.env("LD_LIBRARY_PATH", llvm);
    } else {
        command.args(arguments);
    }
    command.exec()
}

fn is_for_kernel(arguments: &[OsString]) -> bool {
    arguments
        .windows(2)
        .any(|pair| pair == ["--target", TARGET])
}

/// What cargo says of the package being compiled: name and version, and where its sources are.
fn package() -> (String, String) {
    let part = |name| env::var(name).unwrap_or_default();
    let identity = format!("{}-{}", part("CARGO_PKG_NAME"), part("CARGO_PKG_VERSION"));
    (identity, part("CARGO_MANIFEST_DIR"))
}

fn with_identity(mut arguments: Vec<OsString>, identity: &str) -> Vec<OsString> {
    for argument in &mut arguments {
        let text = argument.to_str().unwrap_or_default();
        if text.starts_with("metadata=") {
            *argument = format!("metadata={identity}").into();
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn only_the_identity_changes() {
        let given = words("--crate-name steer -C metadata=0f1e2d -C extra-filename=-0f1e2d");
        let expected = words("--crate-name steer -C metadata=steer-1 -C extra-filename=-0f1e2d");
        assert_eq!(with_identity(given, "steer-1"), expected);
    }

    #[test]
    fn what_runs_on_the_host_is_left_alone() {
        assert!(is_for_kernel(&words(
            "--crate-name steer --target bpfel-unknown-none"
        )));
        assert!(!is_for_kernel(&words(
            "--crate-name build_script_build --cfg x"
        )));
    }
}
