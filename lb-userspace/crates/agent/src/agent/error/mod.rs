//! What the agent cannot do, in the operator's words: an enum for each thing it does.

mod adopt;
mod check;
mod now;
mod open;
mod start;
mod verb;

pub(super) use self::check::CheckError;
pub use self::{
    adopt::{AdoptError, NotSharing},
    now::Now,
    open::{OpenError, PinsGone},
    start::StartError,
    verb::VerbError,
};

/// Where a server has UDP sockets that has none where it should.
fn what_it_has(found: &str) -> String {
    match found {
        "" => "it has none at all".to_owned(),
        found => format!("it has {found}"),
    }
}
