//! Generations that are started again: whether they would be what they were.

use std::path::PathBuf;

use lb_common::GenerationId;

use super::{
    VerbError,
    registry::{Generation, Registry},
};
use crate::{
    generation::{
        launch::{self, LaunchError},
        roots::{Change, Roots},
    },
    rollout::GenerationState,
    store::Origin,
    sys::disk,
};

/// Who looks at the disks of a generation: one at a time, so that one that says nothing holds one thread and no more.
pub(super) type Look = disk::Turn;

/// A generation that would be started again, as the registry had it.
#[derive(Clone)]
pub(super) struct Again {
    name: String,
    origin: Origin,
    roots: Option<Roots>,
    command: Vec<String>,
    cwd: PathBuf,
    look: Look,
}

impl Again {
    pub(super) fn of(generation: &Generation) -> Self {
        Self {
            name: generation.name().to_owned(),
            origin: generation.provenance().origin,
            roots: generation.command().roots().cloned(),
            command: generation.command().words().to_vec(),
            cwd: generation.command().cwd().to_owned(),
            look: generation.command().look().clone(),
        }
    }

    /// Why what would be started is not what it was, in short.
    pub(super) async fn change(self) -> Option<String> {
        Some(match self.obstacle().await? {
            Obstacle::Changed(change) => change.name().to_owned(),
            Obstacle::Command(_) => "cannot be started: its command line is unknown".to_owned(),
            silent @ Obstacle::Silent => silent.to_string(),
        })
    }

    /// What has changed, to be said when it is started again without anybody asking for it. Refuses where its disk says
    /// nothing: to start it would wait as long as that one does.
    pub(super) async fn allowed_change(self) -> Result<Option<String>, VerbError> {
        match self.obstacle().await {
            Some(Obstacle::Changed(change)) if change.can_start() => Ok(Some(change.to_string())),
            Some(silent @ Obstacle::Silent) => Err(VerbError::NotAgain {
                generation: self.name,
                why: silent.to_string(),
                advice: "make its disk respond, or deploy and promote another generation",
            }),
            _ => Ok(None),
        }
    }

    /// Refuses to start it by name where it would be another one, unless that is wanted `anyway`, and where it cannot
    /// be started.
    pub(super) async fn refuse_another(self, anyway: bool) -> Result<(), VerbError> {
        match self.obstacle().await {
            Some(Obstacle::Changed(change)) if change.can_start() && anyway => Ok(()),
            Some(obstacle) => Err(VerbError::NotAgain {
                generation: self.name,
                advice: match &obstacle {
                    Obstacle::Changed(change) if change.can_start() => {
                        "nothing was changed; use `--anyway` to start what is there now"
                    }
                    _ => "nothing was changed; deploy another generation",
                },
                why: obstacle.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// Refuses to end it for a hand-over in which it could not be started again if that failed.
    pub(super) async fn refuse_last(self, anyway: bool) -> Result<(), VerbError> {
        match self.obstacle().await {
            Some(Obstacle::Changed(change)) if change.can_start() => Ok(()),
            Some(_) if anyway => Ok(()),
            Some(obstacle) => Err(VerbError::NotAgain {
                generation: self.name,
                why: obstacle.to_string(),
                advice: "it is active and would have to end first, so no generation would serve if \
                         the other one failed; nothing was changed: restore what is missing, or \
                         use `--anyway`",
            }),
            None => Ok(()),
        }
    }

    /// What is in the way. Looks at disks: not to be called under a lock.
    async fn obstacle(&self) -> Option<Obstacle> {
        if self.origin == Origin::Exec {
            return None; // its supervisor starts it
        }
        let asked = self.clone();
        let looking = self.look.work_in_time(move || asked.look_at_disks());
        looking.await.unwrap_or(Some(Obstacle::Silent))
    }

    fn look_at_disks(&self) -> Option<Obstacle> {
        match &self.roots {
            Some(roots) => roots.change().map(Obstacle::Changed),
            None => launch::find(&self.command, &self.cwd)
                .err()
                .map(|error| Obstacle::Command(self.as_found(&error))),
        }
    }

    /// A server that was adopted shows what it likes as its command line, nginx a title.
    fn as_found(&self, error: &LaunchError) -> String {
        match self.origin {
            Origin::Adopted => format!(
                "it was adopted, and the command line that it shows cannot be started ({error}); \
                 next time, name the command with `hotlb adopt … -- COMMAND`"
            ),
            Origin::Launched | Origin::Exec => error.to_string(),
        }
    }

    /// The generation that a rollback leads to, if that starts it again.
    pub(super) fn aim(registry: &Registry) -> Option<Self> {
        let generation = registry.get(registry.steering().previous()?)?;
        (!generation.state().can_serve()).then(|| Self::of(generation))
    }

    /// The generation, if it is active: where it ends for a hand-over that fails, it would be started again.
    pub(super) fn after_all(registry: &Registry, id: GenerationId) -> Option<Self> {
        let generation = registry.get(id)?;
        (generation.state() == GenerationState::Active).then(|| Self::of(generation))
    }
}

/// What is in the way of a generation that is started again.
enum Obstacle {
    Changed(Change),
    /// Its command line cannot be started.
    Command(String),
    /// It is not known.
    Silent,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changed(change) => change.fmt(f),
            Self::Command(why) => f.write_str(why),
            Self::Silent => f.write_str(
                "the disk that holds its program or directory does not respond (a network mount \
                 whose server is unreachable?)",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(look: Look) -> Again {
        Again {
            name: "v1".to_owned(),
            origin: Origin::Launched,
            roots: None,
            command: vec!["/bin/true".to_owned()],
            cwd: PathBuf::from("/"),
            look,
        }
    }

    #[tokio::test]
    async fn a_disk_that_says_nothing_is_not_waited_for_and_is_nobody_elses() {
        let look = Look::default();
        let _hangs = look.take().await;
        let (refused, allowed) = tokio::join!(
            again(look.clone()).refuse_another(true),
            again(look.clone()).refuse_last(true)
        );
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("does not respond"), "{text}");
        allowed.unwrap();
        again(look.clone()).allowed_change().await.unwrap_err();
        let of_another = again(Look::default()).refuse_another(false).await;
        of_another.unwrap();
        let supervised = Again {
            origin: Origin::Exec,
            ..again(look.clone())
        };
        supervised.refuse_another(false).await.unwrap();
    }
}
