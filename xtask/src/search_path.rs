//! Where executables are looked for.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

/// The directories of system programs, which an ordinary user's `PATH` leaves out.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The first executable called `name` in `PATH`, the system directories or cargo's own.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    find_in(name, &directories())
}

/// `PATH` as [`find`] sees it, for a child that must find the same executables.
pub(crate) fn joined() -> OsString {
    env::join_paths(directories()).unwrap_or_else(|_| env::var_os("PATH").unwrap_or_default())
}

/// Where `cargo install` puts executables and where the registry is unpacked.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let stated = env::var_os("CARGO_HOME").map(PathBuf::from);
    stated.or_else(|| Some(env::home_dir()?.join(".cargo")))
}

fn directories() -> Vec<PathBuf> {
    let mut directories: Vec<_> = env::var_os("PATH")
        .iter()
        .flat_map(env::split_paths)
        .collect();
    directories.extend(SYSTEM.map(PathBuf::from));
    directories.extend(cargo_home().map(|home| home.join("bin")));
    directories
}

fn find_in(name: impl AsRef<OsStr>, directories: &[PathBuf]) -> Option<PathBuf> {
    let candidates = directories
        .iter()
        .map(|directory| directory.join(name.as_ref()));
    candidates.into_iter().find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_executable_wins_and_plain_files_do_not_count() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("sh"), "not executable").unwrap();
        let directories = [directory.path().to_owned(), PathBuf::from("/bin")];
        assert_eq!(find_in("sh", &directories), Some(PathBuf::from("/bin/sh")));
        assert_eq!(find_in("no-such-program", &directories), None);
    }
}
