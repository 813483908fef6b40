//! The program's own loader is asked which libraries it does not find.
//!
//! `ld.so --list PROGRAM` (glibc) and `ld-musl-*.so.1 --list PROGRAM` load the libraries and say so,
//! without running anything of them. The loader is named by the program, and the program may be
//! anybody's: so it is run as the service's user, and only if it is root's and looks like one.
//!
//! Unlike the kernel it does not follow the links of the path that it is given before it takes the
//! directory for `$ORIGIN`: it is given the path behind them.

use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};

use super::{Doubt, LoadableError, Program};

/// Longest time the loader gets. What it does not answer by then is not judged.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of its answer that are read.
const ANSWER: u64 = 256 * 1024;

/// Asks `loader` about the ELF file at `path`.
///
/// # Errors
///
/// [`LoadableError::NoLoader`].
pub(super) async fn check(
    program: Program<'_>,
    path: &Path,
    loader: &Path,
) -> Result<Option<Doubt>, LoadableError> {
    if !loader.exists() {
        return Err(LoadableError::NoLoader {
            program: path.to_owned(),
            loader: loader.to_owned(),
        });
    }
    if !is_loader(loader) {
        tracing::debug!(loader = %loader.display(), "loader not asked: it may be any program");
        return Ok(None);
    }
    let resolved = path.canonicalize();
    let resolved = resolved.as_deref().unwrap_or(path);
    let missing = match timeout(PATIENCE, missing(program, resolved, loader)).await {
        Ok(Ok(missing)) => missing,
        Ok(Err(error)) => {
            tracing::debug!(%error, loader = %loader.display(), "failed to ask the loader");
            return Ok(None);
        }
        Err(_elapsed) => {
            tracing::debug!(loader = %loader.display(), "loader did not answer in time");
            return Ok(None);
        }
    };
    Ok((!missing.is_empty()).then(|| Doubt {
        program: path.to_owned(),
        libraries: missing.into_iter().collect(),
    }))
}

/// Root's, for nobody else to write, and called as loaders are.
fn is_loader(path: &Path) -> bool {
    let named = path
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("ld") && name.contains(".so"));
    let trusted = path
        .metadata()
        .is_ok_and(|file| file.uid() == 0 && file.mode() & 0o022 == 0);
    named && trusted
}

async fn missing(program: Program<'_>, path: &Path, loader: &Path) -> io::Result<BTreeSet<String>> {
    let answer = ask(program, path, loader, false).await?;
    let first = not_found(&answer);
    if first.is_empty() || !is_glibc(&answer) {
        return Ok(first);
    }
    // glibc stops at the first one. Traced it goes on; and a program that has just failed to load
    // cannot be run by that, whatever the loader makes of the variable.
    let all = not_found(&ask(program, path, loader, true).await?);
    Ok(if all.is_empty() { first } else { all })
}

async fn ask(program: Program<'_>, path: &Path, loader: &Path, trace: bool) -> io::Result<Output> {
    let mut command = Command::new(loader);
    if trace {
        command.env_clear().env("LD_TRACE_LOADED_OBJECTS", "1");
    } else {
        command.env_clear().arg("--list");
    }
    if let Some(places) = program.env.get("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", places);
    }
    if program.uid != 0 {
        command.gid(program.gid).uid(program.uid);
    }
    let mut child = command
        .arg(path)
        .current_dir(program.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (mut list, mut complaints) = (Vec::new(), Vec::new());
    let (mut stdout, mut stderr) = (stdout.take(ANSWER), stderr.take(ANSWER));
    tokio::try_join!(
        stdout.read_to_end(&mut list),
        stderr.read_to_end(&mut complaints)
    )?;
    Ok(Output {
        status: child.wait().await?,
        stdout: list,
        stderr: complaints,
    })
}

/// How glibc begins what it says of a library that is not there.
const GLIBC: &str = ": error while loading shared libraries: ";
/// How musl does.
const MUSL: &str = "Error loading shared library ";

fn is_glibc(answer: &Output) -> bool {
    String::from_utf8_lossy(&answer.stderr).contains(GLIBC)
}

/// The libraries that the loader misses, in all the ways it says so.
fn not_found(answer: &Output) -> BTreeSet<String> {
    let list = String::from_utf8_lossy(&answer.stdout);
    let complaints = String::from_utf8_lossy(&answer.stderr);
    let listed = list
        .lines()
        .filter_map(|line| line.trim().strip_suffix("=> not found"))
        .map(|name| name.trim().to_owned());
    let complained = complaints.lines().filter_map(complaint);
    listed.chain(complained).collect()
}

/// What a line on stderr misses.
fn complaint(line: &str) -> Option<String> {
    if let Some((_, rest)) = line.split_once(GLIBC) {
        let (name, why) = rest.split_once(": ")?;
        let gone = why.starts_with("cannot open shared object file: No such file");
        return gone.then(|| name.to_owned());
    }
    if let Some(rest) = line.strip_prefix(MUSL) {
        let (name, why) = rest.split_once(": ")?;
        return why.starts_with("No such file").then(|| name.to_owned());
    }
    // PROGRAM: /lib/libc.so.6: version `GLIBC_2.38' not found (required by PROGRAM)
    let (who, rest) = line.split_once(": version `")?;
    let (version, rest) = rest.split_once('\'')?;
    let library = Path::new(who.rsplit(": ").next()?).file_name()?.to_str()?;
    rest.starts_with(" not found")
        .then(|| format!("{library} with {version}"))
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use super::*;

    fn heard(stdout: &str, stderr: &str) -> Vec<String> {
        let answer = Output {
            status: ExitStatus::default(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        not_found(&answer).into_iter().collect()
    }

    #[test]
    fn understands_both_c_libraries() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibb.so.1 => not found\n\tliba.so => not found\n\
                      \tlibc.so.6 => /lib/libc.so.6 (0x7f)\n";
        assert_eq!(heard(listed, ""), ["liba.so", "libb.so.1"]);
        let glibc = "./m: error while loading shared libraries: libx.so.6: cannot open shared \
                     object file: No such file or directory\n";
        assert_eq!(heard("", glibc), ["libx.so.6"]);
        let version = "./v: /lib/libc.so.6: version `GLIBC_9.99' not found (required by ./v)\n";
        assert_eq!(heard("", version), ["libc.so.6 with GLIBC_9.99"]);
        let musl = "Error loading shared library libx.so.6: No such file or directory (needed by \
                    ./m)\nError relocating ./m: x: symbol not found\n";
        assert_eq!(heard("\tldd (0x7f)\n", musl), ["libx.so.6"]);
    }

    #[test]
    fn other_complaints_are_no_verdict() {
        for line in [
            "/etc/passwd: error while loading shared libraries: /etc/passwd: invalid ELF header",
            "./m: error while loading shared libraries: ./m: cannot open shared object file: \
             Permission denied",
            "/bin/sh: 0: Illegal option --",
        ] {
            assert!(heard("", line).is_empty(), "{line}");
        }
    }
}
