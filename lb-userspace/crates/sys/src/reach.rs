//! Whether a directory could be used, found out without making or opening anything.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    unistd::{AccessFlags, eaccess},
};

/// How far the way to a directory exists, and what this process may do there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The directory itself, or the last part of the way that exists.
    pub nearest: PathBuf,
    /// Whether `nearest` is the directory itself.
    pub exists: bool,
    /// What may be done in `nearest`.
    pub access: Access,
}

/// What may be done in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Files can be made.
    Writable,
    /// Nobody can make files: the file system is read-only.
    ReadOnly,
    /// It is something else.
    NotADirectory,
    /// This user may not; what the system said.
    Denied(String),
}

/// Looks at the way to `path`.
pub fn reach(path: &Path) -> Reach {
    let whole = std::path::absolute(path).unwrap_or_else(|_empty| path.to_owned());
    for place in whole.ancestors() {
        let access = match fs::metadata(place) {
            Ok(found) if found.is_dir() => access(place),
            Ok(_) => Access::NotADirectory,
            Err(error) if is_absent(&error) => continue,
            Err(error) => Access::Denied(error.to_string()),
        };
        return Reach {
            nearest: place.to_owned(),
            exists: place == whole,
            access,
        };
    }
    Reach {
        nearest: PathBuf::from("/"),
        exists: false,
        access: Access::Denied("there is no root directory".to_owned()),
    }
}

fn is_absent(error: &io::Error) -> bool {
    // Not a directory: a part of the way is a file, which is found next.
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn access(directory: &Path) -> Access {
    match eaccess(directory, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Access::Writable,
        Err(Errno::EROFS) => Access::ReadOnly,
        Err(errno) => Access::Denied(io::Error::from(errno).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_directory() {
        let dir = tempfile::tempdir().unwrap();
        let here = reach(dir.path());
        assert!(here.exists);
        assert_eq!(here.access, Access::Writable);
        let below = reach(&dir.path().join("a/b"));
        assert!(!below.exists);
        assert_eq!(below.nearest, dir.path());
        assert!(!dir.path().join("a").exists(), "nothing was made");
    }

    #[test]
    fn a_file_in_the_way_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let found = reach(&file.join("below"));
        assert_eq!(found.nearest, file);
        assert_eq!(found.access, Access::NotADirectory);
    }
}
