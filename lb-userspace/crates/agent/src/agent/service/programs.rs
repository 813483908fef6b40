//! Which object's programs decide about the service.

use std::sync::OnceLock;

use super::Context;
use crate::{api::wire::ProgramStatus, datapath::Renewal};

/// What became of the attempt to put this agent's programs in the place of a former one's.
#[derive(Debug, Default)]
pub(super) struct Programs {
    /// Why they could not be replaced, if that was tried.
    not_renewed: OnceLock<String>,
}

impl Programs {
    /// Whether the present programs could take the place of a former agent's, and were not told to.
    pub(super) fn await_renewal(&self, context: &Context) -> bool {
        *context.path.renewal() == Renewal::Kept(None) && self.not_renewed.get().is_none()
    }

    /// The service could not be opened anew: that is not tried again.
    pub(super) fn stay_as_they_are(&self, reason: String) {
        // The first one stands.
        let _former = self.not_renewed.set(reason);
    }

    /// For `status`.
    pub(super) fn status(&self, context: &Context) -> ProgramStatus {
        let in_force = context.path.in_force();
        let own = in_force.is_own();
        let reason = match context.path.renewal() {
            _ if own => None,
            Renewal::Kept(Some(reason)) => Some(reason.clone()),
            Renewal::Kept(None) if self.not_renewed.get().is_some() => {
                self.not_renewed.get().cloned()
            }
            Renewal::Kept(None) => Some(
                "the agent that loaded them was in charge a moment ago, or something is in \
                 progress that must end first"
                    .to_owned(),
            ),
            Renewal::None | Renewal::Found | Renewal::Begun => {
                Some("they were replaced, or are about to be".to_owned())
            }
        };
        ProgramStatus {
            object: in_force.object.map(digits),
            layout: in_force.layout,
            own,
            reason,
        }
    }
}

/// An object, as messages name it.
pub(super) fn digits(object: u64) -> String {
    format!("{object:016x}")
}
