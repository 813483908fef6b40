//! What a generation was started by.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::super::again::Look;
use crate::generation::{launch, roots::Roots};

/// What starts a generation, and would start it again.
#[derive(Debug, Default)]
pub(in crate::agent::service) struct Command {
    /// Program and arguments.
    words: Vec<String>,
    /// Where it is started.
    cwd: PathBuf,
    /// What is added to its environment.
    env: BTreeMap<String, String>,
    /// The file that is executed, once that is known.
    program: Option<PathBuf>,
    /// What stood at these paths when it was started.
    roots: Option<Roots>,
    /// Why it is doubtful that its program can be loaded.
    doubt: Option<String>,
    /// Who looks whether it could be started again.
    look: Look,
}

impl Command {
    /// These words, in this directory.
    pub(in crate::agent::service) fn new(
        words: Vec<String>,
        cwd: PathBuf,
        env: BTreeMap<String, String>,
        roots: Option<Roots>,
    ) -> Self {
        Self {
            words,
            cwd,
            env,
            roots,
            ..Self::default()
        }
    }

    /// That of a process that runs already. What a rollback would start is unknown where the process shows a title.
    pub(in crate::agent::service) fn shown(words: Vec<String>, cwd: PathBuf) -> Self {
        let program = launch::find(&words, &cwd).ok();
        let roots = program.and_then(|program| Roots::of(&program, &cwd).ok());
        Self::new(words, cwd, BTreeMap::new(), roots)
    }

    /// This file is what it executes.
    pub(in crate::agent::service) fn executing(mut self, program: PathBuf) -> Self {
        self.program = Some(program);
        self
    }

    /// Its program may not be loadable, or is.
    pub(in crate::agent::service) fn note_doubt(&mut self, doubt: Option<String>) {
        self.doubt = doubt;
    }

    /// Program and arguments.
    pub(in crate::agent::service) fn words(&self) -> &[String] {
        &self.words
    }

    /// Where it is started.
    pub(in crate::agent::service) fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// What is added to its environment.
    pub(in crate::agent::service) const fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// The file that is executed, if that is known.
    pub(in crate::agent::service) fn program(&self) -> Option<&Path> {
        self.program.as_deref()
    }

    /// What stood at its paths when it was started.
    pub(in crate::agent::service) const fn roots(&self) -> Option<&Roots> {
        self.roots.as_ref()
    }

    /// Why it is doubtful that its program can be loaded.
    pub(in crate::agent::service) fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// Who looks whether it could be started again.
    pub(in crate::agent::service) const fn look(&self) -> &Look {
        &self.look
    }
}
