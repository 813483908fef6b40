//! The file a profile goes to, which must be writable before anything is sampled.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{ClientError, failed};

/// Where the result goes.
#[derive(Debug)]
pub(crate) enum Target {
    /// To stdout.
    Stdout,
    /// To a file.
    File(Output),
}

/// A file that is written whole or not at all; what was there before stays until then.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
}

impl Target {
    /// The file at `path`, once it is sure that it can be written. Nothing stays of that, however
    /// this process ends.
    pub(super) fn at(path: &Path) -> Result<Self, ClientError> {
        open(path).map_err(|error| unwritable(path, &error))?;
        Ok(Self::File(Output {
            path: path.to_owned(),
        }))
    }
}

impl Output {
    /// Writes all of it; where that is.
    pub(crate) fn write(self, bytes: &[u8]) -> Result<PathBuf, ClientError> {
        let written = match open(&self.path) {
            Ok(Open::Beside(mut file)) => file.write_all(bytes).and_then(|()| {
                let moved = file.persist(&self.path);
                moved.map(drop).map_err(|error| error.error)
            }),
            Ok(Open::Itself(mut file)) => file.write_all(bytes),
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => Ok(self.path),
            Err(error) => Err(unwritable(&self.path, &error)),
        }
    }
}

#[derive(Debug)]
enum Open {
    /// Beside it, to be moved to its place.
    Beside(NamedTempFile),
    /// A device or pipe, which nothing can be moved over.
    Itself(File),
}

fn open(path: &Path) -> io::Result<Open> {
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(meta) if !meta.is_file() => {
            let file = OpenOptions::new().write(true).open(path)?;
            Ok(Open::Itself(file))
        }
        _ => {
            let directory = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            let file = tempfile::Builder::new()
                .prefix(".hotlb-profile")
                // As any file a command writes: what the umask leaves.
                .permissions(Permissions::from_mode(0o666))
                .tempfile_in(directory.unwrap_or(Path::new(".")))?;
            Ok(Open::Beside(file))
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> ClientError {
    // The kind alone: the error's own text names a file beside the one that was asked for.
    let message = format!(
        "cannot write {}: {}; no profile was written, name another file with -o",
        path.display(),
        error.kind()
    );
    failed("unwritable", message, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_until_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.svg");
        std::fs::write(&path, "before").unwrap();
        let Target::File(output) = Target::at(&path).unwrap() else {
            panic!("not a file");
        };
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
        output.write(b"after").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_and_a_missing_one_are_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        Target::at(directory.path()).unwrap_err();
        Target::at(&directory.path().join("no/a.svg")).unwrap_err();
        Target::at(Path::new("/dev/null")).unwrap();
    }
}
