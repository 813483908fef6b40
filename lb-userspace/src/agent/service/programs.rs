//! Which object's programs decide about the service.

use super::Service;
use crate::{
    api::wire::ProgramStatus,
    datapath::{Renewal, own_object},
};

impl Service {
    /// Whether the present programs could take the place of a former agent's, and were not told to.
    pub(in crate::agent) fn awaits_renewal(&self) -> bool {
        *self.path.renewal() == Renewal::Kept(None) && self.not_renewed.get().is_none()
    }

    /// It could not be opened anew: that is not tried again.
    pub(in crate::agent) fn stays_as_it_is(&self, reason: String) {
        // The first one stands.
        let _former = self.not_renewed.set(reason);
    }

    pub(super) fn program_status(&self) -> ProgramStatus {
        let in_force = self.path.in_force();
        let own = in_force.is_own();
        let reason = match self.path.renewal() {
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

    pub(super) fn program_warning(&self, warnings: &mut Vec<String>) {
        let programs = self.program_status();
        let Some(reason) = programs.reason else {
            return;
        };
        let whose = match programs.object {
            Some(object) => format!("of object {object}"),
            None => "of another release".to_owned(),
        };
        warnings.push(format!(
            "the kernel programs are {whose}, not this agent's ({}): {reason}; clients are \
             steered, but this release's fixes to the kernel programs are not in force here; see \
             `hotlb doctor`, and restart the agent to try again",
            digits(own_object())
        ));
    }
}

fn digits(object: u64) -> String {
    format!("{object:016x}")
}
