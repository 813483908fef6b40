//! Who may become active, who stands in, and where a rollback leads.

use lb_common::GenerationId;
use thiserror::Error;

use super::GenerationState;

/// A generation, as far as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: GenerationId,
    /// Its state.
    pub state: GenerationState,
}

/// A service, as far as decisions need it.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// All generations, oldest first.
    pub members: &'a [Member],
    /// Who was active before the last promote, if that can be undone.
    pub previous: Option<GenerationId>,
}

impl Standing<'_> {
    fn state(&self, id: GenerationId) -> Option<GenerationState> {
        self.members
            .iter()
            .find(|member| member.id == id)
            .map(|member| member.state)
    }
}

/// Who takes over in the kernel when `active` has no listener left: the previous generation,
/// which has served before, else the youngest that is able to.
pub fn fallback(standing: Standing<'_>, active: Option<GenerationId>) -> Option<GenerationId> {
    let able = |id: GenerationId| {
        Some(id) != active && standing.state(id).is_some_and(GenerationState::can_serve)
    };
    standing.previous.filter(|&id| able(id)).or_else(|| {
        standing
            .members
            .iter()
            .rev()
            .map(|member| member.id)
            .find(|&id| able(id))
    })
}

/// Why a generation cannot be promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unpromotable {
    /// It is active.
    #[error("it is already active")]
    Active,
    /// It has not proved that it serves.
    #[error("it is still starting; `hotlb deploy` returns when it is ready")]
    Starting,
    /// It is being ended.
    #[error("it is being stopped; deploy it again under another name")]
    Stopping,
    /// It has ended.
    #[error("it has ended; deploy it again under another name")]
    Ended,
}

/// Whether a generation in this state can be promoted.
pub fn cannot_promote(state: GenerationState) -> Option<Unpromotable> {
    match state {
        GenerationState::Ready | GenerationState::Draining | GenerationState::Standby => None,
        GenerationState::Active => Some(Unpromotable::Active),
        GenerationState::Starting => Some(Unpromotable::Starting),
        GenerationState::Stopping => Some(Unpromotable::Stopping),
        GenerationState::Stopped | GenerationState::Failed => Some(Unpromotable::Ended),
    }
}

/// Whether a generation in this state must not be stopped: only the active one.
pub fn cannot_stop(state: GenerationState) -> bool {
    state == GenerationState::Active
}

/// How the previous generation comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollbackWay {
    /// It still runs: one store.
    Warm(GenerationId),
    /// Its command is started again.
    Cold(GenerationId),
}

/// Where a rollback leads, if there is anything to roll back to.
pub fn rollback_way(standing: Standing<'_>) -> Option<RollbackWay> {
    let previous = standing.previous?;
    match standing.state(previous)? {
        GenerationState::Draining | GenerationState::Standby | GenerationState::Ready => {
            Some(RollbackWay::Warm(previous))
        }
        GenerationState::Stopping | GenerationState::Stopped | GenerationState::Failed => {
            Some(RollbackWay::Cold(previous))
        }
        GenerationState::Starting | GenerationState::Active => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(raw: u32) -> GenerationId {
        GenerationId::new(raw).unwrap()
    }

    /// For every pair of states and every choice of active and previous: the fallback is able to
    /// serve, is not the active one, and exists whenever anybody could be it.
    #[test]
    fn the_fallback_can_serve_and_is_never_the_active_one() {
        for first in GenerationState::ALL {
            for second in GenerationState::ALL {
                let members = [
                    Member {
                        id: id(1),
                        state: first,
                    },
                    Member {
                        id: id(2),
                        state: second,
                    },
                ];
                for active in [None, Some(id(1)), Some(id(2))] {
                    for previous in [None, Some(id(1)), Some(id(2)), Some(id(3))] {
                        let standing = Standing {
                            members: &members,
                            previous,
                        };
                        let chosen = fallback(standing, active);
                        let able: Vec<_> = members
                            .iter()
                            .filter(|m| m.state.can_serve() && Some(m.id) != active)
                            .map(|m| m.id)
                            .collect();
                        assert_eq!(chosen.is_some(), !able.is_empty());
                        if let Some(chosen) = chosen {
                            assert!(able.contains(&chosen));
                            if let Some(previous) = previous.filter(|p| able.contains(p)) {
                                assert_eq!(chosen, previous);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_rollback_is_possible_from_every_state_of_the_previous_one_but_its_own_start() {
        for state in GenerationState::ALL {
            let members = [Member { id: id(1), state }];
            let standing = Standing {
                members: &members,
                previous: Some(id(1)),
            };
            let way = rollback_way(standing);
            match state {
                GenerationState::Starting | GenerationState::Active => assert_eq!(way, None),
                state if state.can_serve() => assert_eq!(way, Some(RollbackWay::Warm(id(1)))),
                _ => assert_eq!(way, Some(RollbackWay::Cold(id(1)))),
            }
            let none = Standing {
                members: &members,
                previous: None,
            };
            assert_eq!(rollback_way(none), None);
        }
    }

    #[test]
    fn only_who_serves_and_is_not_active_can_be_promoted() {
        for state in GenerationState::ALL {
            let able = state.can_serve() && state != GenerationState::Active;
            assert_eq!(cannot_promote(state).is_none(), able, "{state:?}");
        }
    }
}
