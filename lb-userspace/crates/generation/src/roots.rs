//! What a generation was started from, so that it is that which is started again: the program behind
//! its links, and its directory.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::launch::{LaunchError, is_executable};
use crate::sys::os_text;

/// The program and the directory of a generation as they were when it was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// The program, without links.
    program: Place,
    /// The same as it was named, without links in its directory: programs look at their own name.
    #[serde(with = "os_text")]
    named: PathBuf,
    /// The directory, without links.
    cwd: Place,
}

/// Something at a path. Not by its device: those numbers change with each boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    #[serde(with = "os_text")]
    path: PathBuf,
    inode: u64,
    /// Length and time of the last change of a file; a directory's change as it is used.
    file: Option<(u64, i64, i64)>,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let found = fs::metadata(&path)?;
        let file = (found.len(), found.mtime(), found.mtime_nsec());
        Ok(Self {
            inode: found.ino(),
            file: found.is_file().then_some(file),
            path,
        })
    }

    /// What has become of it.
    fn now(&self) -> Now {
        match Self::of(&self.path) {
            Ok(now) if now == *self => Now::Same,
            Ok(_other) => Now::Other,
            Err(_gone) => Now::Gone,
        }
    }
}

enum Now {
    Same,
    Other,
    Gone,
}

/// Why a generation is not what it was if it is started again, or cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another file is there, by an update in place for instance.
    OtherProgram(PathBuf),
    /// Another directory is there.
    OtherDirectory(PathBuf),
    /// No program is there.
    ProgramGone(PathBuf),
    /// No directory is there.
    DirectoryGone(PathBuf),
}

impl Change {
    /// Whether something can be started all the same.
    pub const fn can_start(&self) -> bool {
        matches!(self, Self::OtherProgram(_) | Self::OtherDirectory(_))
    }

    /// In short.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::OtherProgram(_) => "its program has changed",
            Self::OtherDirectory(_) => "its directory is another one",
            Self::ProgramGone(_) => "its program is gone",
            Self::DirectoryGone(_) => "its directory is gone",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::OtherProgram(path)
        | Self::OtherDirectory(path)
        | Self::ProgramGone(path)
        | Self::DirectoryGone(path)) = self;
        write!(f, "{} ({})", self.name(), path.display())
    }
}

impl Roots {
    /// Of a program that is about to be started in `cwd`.
    pub fn of(program: &Path, cwd: &Path) -> io::Result<Self> {
        let directory = program.parent().unwrap_or_else(|| Path::new("/"));
        let name = program.file_name().unwrap_or_default();
        Ok(Self {
            program: Place::of(program)?,
            named: directory.canonicalize()?.join(name),
            cwd: Place::of(cwd)?,
        })
    }

    /// What is not as it was.
    pub fn change(&self) -> Option<Change> {
        let (program, cwd) = (self.program.path.clone(), self.cwd.path.clone());
        match (self.cwd.now(), self.program.now()) {
            (Now::Gone, _) => Some(Change::DirectoryGone(cwd)),
            (_, Now::Gone) => Some(Change::ProgramGone(program)),
            (_, Now::Other) => Some(Change::OtherProgram(program)),
            (Now::Other, Now::Same) => Some(Change::OtherDirectory(cwd)),
            (Now::Same, Now::Same) => None,
        }
    }

    /// What to start, and where: as it is named now if that leads to the recorded program, else that
    /// one itself.
    ///
    /// # Errors
    ///
    /// Program or directory are gone.
    pub fn again(
        &self,
        found: Option<PathBuf>,
        cwd: &Path,
    ) -> Result<(PathBuf, PathBuf), LaunchError> {
        let leads = |path: &Path, to: &Place| path.canonicalize().is_ok_and(|path| path == to.path);
        let names = found
            .into_iter()
            .chain([self.named.clone(), self.program.path.clone()]);
        let mut names = names.filter(|name| leads(name, &self.program));
        let program = names
            .next()
            .ok_or_else(|| LaunchError::NotFound(self.program.path.display().to_string()))?;
        if !is_executable(&program) {
            return Err(LaunchError::NotExecutable(program));
        }
        let mut directories = [cwd.to_owned(), self.cwd.path.clone()].into_iter();
        let directory = directories.find(|directory| leads(directory, &self.cwd));
        let gone = || LaunchError::NoDirectory(self.cwd.path.clone());
        Ok((program, directory.ok_or_else(gone)?))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn release(dir: &Path, name: &str) -> PathBuf {
        let release = dir.join(name);
        fs::create_dir(&release).unwrap();
        fs::write(release.join("app"), name).unwrap();
        fs::set_permissions(release.join("app"), fs::Permissions::from_mode(0o755)).unwrap();
        release
    }

    #[test]
    fn what_is_started_again_is_what_was_started() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (one, two) = (release(&dir, "1"), release(&dir, "2"));
        let current = dir.join("current");
        symlink(&one, &current).unwrap();
        let named = current.join("app");
        let roots = Roots::of(&named, &current).unwrap();
        let again = || roots.again(Some(named.clone()), &current);
        assert_eq!(roots.change(), None);
        assert_eq!(again().unwrap(), (named.clone(), current.clone()));

        fs::remove_file(&current).unwrap();
        symlink(&two, &current).unwrap();
        assert_eq!(roots.change(), None);
        assert_eq!(again().unwrap(), (one.join("app"), one.clone()));

        // As a package manager does it.
        fs::write(one.join("new"), "1.1").unwrap();
        fs::set_permissions(one.join("new"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(one.join("new"), one.join("app")).unwrap();
        assert_eq!(roots.change(), Some(Change::OtherProgram(one.join("app"))));
        assert_eq!(again().unwrap().0, one.join("app"));

        fs::remove_file(one.join("app")).unwrap();
        assert_eq!(roots.change(), Some(Change::ProgramGone(one.join("app"))));
        again().unwrap_err();
        fs::remove_dir(&one).unwrap();
        let change = roots.change().unwrap();
        assert_eq!(change, Change::DirectoryGone(one));
        assert!(!change.can_start());
    }

    #[test]
    fn a_link_that_is_a_name_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let one = release(&dir, "1");
        let link = dir.join("python");
        symlink(one.join("app"), &link).unwrap();
        let roots = Roots::of(&link, &dir).unwrap();
        // A virtual environment's python finds it by its own name.
        assert_eq!(roots.again(None, &dir).unwrap().0, link);
    }
}
