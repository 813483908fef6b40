//! What the agent cannot do, in the operator's words: an enum for each thing it does.

mod adopt;
mod check;
mod host;
mod now;
mod open;
mod start;
mod unbound;
mod upgrade;
mod verb;

pub(super) use self::check::CheckError;
pub use self::{
    adopt::{AdoptError, NotSharing},
    host::HostError,
    now::Now,
    open::{OpenError, PinsGone},
    start::StartError,
    unbound::Unbound,
    upgrade::UpgradeError,
    verb::VerbError,
};
