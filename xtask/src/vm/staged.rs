//! Copies of what was built: a machine reads the files of this one while it runs, and the next build would change them
//! under its feet. Without debugging information they are a tenth as large.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use rustix::fs::{Access, access};

use super::plan::Program;
use crate::command;

/// The place of the copies: as the tests expect it, they lie in `deps` below what they start.
#[derive(Debug)]
pub(super) struct Staged {
    place: PathBuf,
}

impl Staged {
    /// Copies this program and every one in `built` to `place`, which is emptied first.
    pub(super) fn new(built: &Path, place: &Path) -> Result<Self> {
        if place.exists() {
            fs::remove_dir_all(place)?;
        }
        fs::create_dir_all(place.join("deps"))?;
        for entry in fs::read_dir(built).with_context(|| built.display().to_string())? {
            let path = entry?.path();
            if path.is_file() && access(&path, Access::EXEC_OK).is_ok() {
                copy(&path, place)?;
            }
        }
        copy(&env::current_exe()?, place)?;
        Ok(Self {
            place: place.to_owned(),
        })
    }

    /// Where the copy of a program of this name is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// Where the copy of this program is.
    pub(super) fn this_program(&self) -> Result<PathBuf> {
        let path = env::current_exe()?;
        Ok(self
            .place
            .join(path.file_name().context("a program has a name")?))
    }

    /// Copies the program of the tests; gives it with the place of the copy.
    pub(super) fn tests(&self, program: Program) -> Result<Program> {
        let path = copy(&program.path, &self.place.join("deps"))?;
        Ok(Program { path, ..program })
    }
}

/// Copies a program without its debugging information; its symbols stay, the profiler's tests look for them.
fn copy(program: &Path, place: &Path) -> Result<PathBuf> {
    let copy = place.join(program.file_name().context("a program has a name")?);
    let mut strip = Command::new("strip");
    strip.args(["--strip-debug", "-o"]).arg(&copy).arg(program);
    if let Err(error) = command::capture(&mut strip) {
        println!("vm: {error:#}; copied as it is");
        fs::copy(program, &copy)?;
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_lie_below_what_they_start() {
        let (built, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::copy("/bin/true", built.path().join("hotlb")).unwrap();
        fs::write(built.path().join("hotlb.d"), "not executable").unwrap();
        let staged = Staged::new(built.path(), &place.path().join("programs")).unwrap();
        assert!(staged.path("hotlb").is_file());
        assert!(!staged.path("hotlb.d").exists());
        let test = Program {
            path: "/bin/true".into(),
            directory: "/".into(),
            modules: Vec::new(),
        };
        let test = staged.tests(test).unwrap();
        assert!(test.path.ends_with("deps/true"));
    }
}
