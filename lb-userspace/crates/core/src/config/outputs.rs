//! Where servers' outputs are.

use std::path::PathBuf;

/// Where they are on their way, and where they end up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPlaces {
    /// The directory of the pipes.
    pub pipes: PathBuf,
    /// The directory of the files: below it one for each service.
    pub files: PathBuf,
}

impl OutputPlaces {
    /// The pipe of a generation. Names of services and generations have no dot.
    pub fn pipe(&self, service: &str, generation: &str) -> PathBuf {
        self.pipes.join(format!("{service}.{generation}"))
    }

    /// The file of a generation.
    pub fn file(&self, service: &str, generation: &str) -> PathBuf {
        self.files.join(service).join(format!("{generation}.log"))
    }

    /// What had to be given up.
    pub fn dropped(&self) -> PathBuf {
        self.pipes.with_extension("dropped")
    }

    /// What is being written at the moment.
    pub fn part(&self) -> PathBuf {
        self.pipes.with_extension("part")
    }
}
