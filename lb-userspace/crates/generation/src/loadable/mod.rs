//! Can a program be loaded at all? Asked before a generation exists.
//!
//! Only what is certain to fail is refused, with the reason that the kernel or the loader would
//! keep to themselves or say in other words: "No such file or directory" for a script whose
//! interpreter is missing. What cannot be judged passes. The program itself is never run; its
//! loader is, as the user it will run as: but what a loader says when it is asked is not what it does
//! when the kernel starts the program (capability bits, preloaded libraries), so that is a doubt and
//! refuses nothing.

mod elf;
mod foreign;
mod loader;
mod script;

use std::{
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::launch;
use crate::sys::environment::Environment;

/// A program, and how it will be started.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// The file.
    pub path: &'a Path,
    /// The directory it starts in.
    pub cwd: &'a Path,
    /// Its environment, of which PATH and `LD_LIBRARY_PATH` count here.
    pub env: &'a Environment,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Why a program cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadableError {
    /// No exec bit.
    #[error("{0} is not an executable file; chmod +x it, or name the interpreter")]
    NotExecutable(PathBuf),
    /// The program in the first line is not there.
    #[error(
        "{script} is a script for {interpreter}, which does not exist; install it, or correct the \
         first line"
    )]
    NoInterpreter {
        /// The file.
        script: PathBuf,
        /// What its first line names.
        interpreter: String,
    },
    /// As above, and the reason is visible.
    #[error(
        "{0} has DOS line endings, so its interpreter is not found; convert it (sed -i 's/\\r$//')"
    )]
    DosLines(PathBuf),
    /// `#!/usr/bin/env NAME` finds nothing.
    #[error(
        "{script} is a script for {name}, which is not in its PATH ({path}); install it, or set PATH with --env"
    )]
    NotInPath {
        /// The file.
        script: PathBuf,
        /// What `env` will look for.
        name: String,
        /// Where.
        path: String,
    },
    /// Built for another processor.
    #[error(
        "{program} is built for {built_for}, and this host is {host}; deploy a build for {host}"
    )]
    Machine {
        /// The file.
        program: PathBuf,
        /// What it says.
        built_for: String,
        /// What is needed.
        host: &'static str,
    },
    /// An object file, a core dump.
    #[error("{0} is an ELF file but not a program: an object file or a core dump")]
    NoProgram(PathBuf),
    /// Cut off, or overwritten.
    #[error("{program} is damaged: {reason}; copy it again")]
    Damaged {
        /// The file.
        program: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The dynamic loader is not there.
    #[error(
        "{program} needs the loader {loader}, which does not exist; install the C library it was built for"
    )]
    NoLoader {
        /// The file.
        program: PathBuf,
        /// What it names.
        loader: PathBuf,
    },
}

/// Libraries, or versions of them, that a program's loader does not find when it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    program: PathBuf,
    /// "libfoo.so.1", or "libc.so.6 with `GLIBC_2.38`".
    libraries: Vec<String>,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "its loader reports that {} is missing shared libraries: {}; if it does not start, \
             install them, or set LD_LIBRARY_PATH with --env",
            self.program.display(),
            self.libraries.join(", ")
        )
    }
}

/// Scripts for scripts: as many as the kernel follows.
const SCRIPTS: usize = 4;

/// Refuses a program that cannot be loaded; says what makes it doubtful.
///
/// # Errors
///
/// See [`LoadableError`].
pub async fn check(program: Program<'_>) -> Result<Option<Doubt>, LoadableError> {
    if !launch::is_executable(program.path) {
        return Err(LoadableError::NotExecutable(program.path.to_owned()));
    }
    let mut path = program.path.to_owned();
    for _ in 0..=SCRIPTS {
        let beginning = match beginning(&path) {
            Ok(beginning) => beginning,
            Err(error) => {
                tracing::debug!(
                    %error,
                    path = %path.display(),
                    "failed to read a program, which is not checked"
                );
                return Ok(None);
            }
        };
        if beginning.starts_with(b"\x7fELF") {
            return loader_says(program, &path).await;
        }
        match script::interpreter(program, &path, &beginning)? {
            Some(interpreter) => path = interpreter,
            None => return Ok(None),
        }
    }
    Ok(None)
}

async fn loader_says(program: Program<'_>, path: &Path) -> Result<Option<Doubt>, LoadableError> {
    match elf::check(path)? {
        elf::Loading::Static | elf::Loading::Unknown => Ok(None),
        elf::Loading::By(loader) => loader::check(program, path, &program.cwd.join(loader)).await,
    }
}

/// As much as the kernel looks at.
fn beginning(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(256).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
