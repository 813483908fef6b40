//! The files of the project, as the rules see them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use ignore::WalkBuilder;

use crate::project::Project;

/// All files that git tracks or would track.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Sorted by name.
    pub(crate) files: Vec<SourceFile>,
}

/// One file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Its path below the top directory, with `/`.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) content: Vec<u8>,
}

impl Sources {
    /// Reads all files of the project that `.gitignore` does not leave out.
    pub(crate) fn read(project: &Project) -> Result<Self> {
        let walk = WalkBuilder::new(project.root())
            .hidden(false)
            .require_git(false)
            .filter_entry(|entry| entry.file_name() != ".git")
            .build();
        let mut sources = Self::default();
        for entry in walk {
            let entry = entry?;
            if entry.file_type().is_some_and(|kind| kind.is_file()) {
                sources
                    .files
                    .push(SourceFile::read(project.root(), entry.path())?);
            }
        }
        sources
            .files
            .sort_by(|one, other| one.name.cmp(&other.name));
        Ok(sources)
    }

    /// The text of the file called `name`; nothing if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        let file = self.files.iter().find(|file| file.name == name);
        file.and_then(SourceFile::text).unwrap_or_default()
    }

    /// The Rust files, with their text.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&SourceFile, &str)> {
        self.with_extension("rs")
    }

    /// The files called `*.{extension}` that are UTF-8, with their text.
    pub(crate) fn with_extension(
        &self,
        extension: &'static str,
    ) -> impl Iterator<Item = (&SourceFile, &str)> {
        let named = move |file: &&SourceFile| {
            Path::new(&file.name)
                .extension()
                .is_some_and(|found| found == extension)
        };
        let files = self.files.iter().filter(named);
        files.filter_map(|file| Some((file, file.text()?)))
    }
}

impl SourceFile {
    fn read(root: &Path, path: &Path) -> Result<Self> {
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        let content = fs::read(path).with_context(|| name.clone())?;
        Ok(Self { name, content })
    }

    /// The text, if it is UTF-8.
    pub(crate) fn text(&self) -> Option<&str> {
        str::from_utf8(&self.content).ok()
    }
}

#[cfg(test)]
impl Sources {
    /// Sources out of names and texts.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(name, text): &(&str, &str)| SourceFile {
            name: (*name).to_owned(),
            content: text.as_bytes().to_vec(),
        };
        Self {
            files: files.iter().map(file).collect(),
        }
    }
}
