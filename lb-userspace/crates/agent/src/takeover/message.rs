//! What the agent in charge and its successor say to each other: one JSON value a packet.
//!
//! The two are of different releases. A field that one side does not know is passed over; the
//! meaning of a field never changes under the same [`PROTOCOL`].

use std::{fmt, net::SocketAddr};

use lb_common::{ABI_VERSION, EARLIEST_ABI};
use serde::{Deserialize, Serialize};

use crate::{
    api::wire,
    config::Places,
    generation::keeper,
    store::{LEDGER_VERSION, journal::SCHEMA},
};

/// Every version of these is understood, from the first one on.
const FIRST: u32 = 1;

/// The version of these messages.
pub(crate) const PROTOCOL: u32 = 1;

/// What the agent in charge says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromFormer {
    /// First: who it is, and what there is to take over.
    Offer(Offer),
    /// The locks and listeners, in the packet's descriptors: from here on the successor acts and
    /// the agent in charge does not.
    Yours {
        /// Whether the metrics listener is among them, last.
        metrics: bool,
    },
    /// Last: it ends.
    Farewell,
}

/// What its successor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromSuccessor {
    /// First: who it is, and what it can take over. Its configuration is checked.
    Hello(Hello),
    /// It does not take over. Nothing was changed.
    Refuse(Refusal),
    /// It is at this service.
    Opening(String),
    /// It serves.
    Ready,
    /// It could not open the services.
    Failed(Refusal),
}

/// What there is to take over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// [`PROTOCOL`].
    pub(crate) protocol: u32,
    /// The agent's version.
    pub(crate) version: String,
    /// Its process.
    pub(crate) pid: u32,
    /// Its places. They are said, not left to the environment: the usual name of the cgroup is a
    /// hash that another release may compute otherwise.
    pub(crate) places: Places,
    /// Where it serves metrics.
    pub(crate) metrics: Option<SocketAddr>,
}

/// Who wants to take over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// [`PROTOCOL`].
    pub(crate) protocol: u32,
    /// Its version.
    pub(crate) version: String,
    /// Its process.
    pub(crate) pid: u32,
    /// The version of the API it serves. Clients are told by themselves when they do not fit.
    pub(crate) api: u32,
    /// What it can take over.
    pub(crate) takes: Layouts,
}

/// Why it does not take over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// In words.
    pub(crate) reason: String,
    /// The exit code of the command line.
    pub(crate) exit: u8,
}

/// Versions of what outlives an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layouts {
    /// The pinned maps: [`ABI_VERSION`].
    pub(crate) maps: Span,
    /// What agent and keeper say to each other.
    pub(crate) keeper: Span,
    /// The ledger.
    pub(crate) ledger: Span,
    /// The journal.
    pub(crate) journal: Span,
}

/// The first and the last version that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span(pub(crate) u32, pub(crate) u32);

/// A layout the successor does not understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// Of what.
    pub(crate) what: &'static str,
    /// The version there is.
    pub(crate) found: u32,
    /// What the successor takes over.
    pub(crate) takes: Span,
}

impl Layouts {
    /// Those of this program.
    pub(crate) fn own() -> Self {
        let since_first = |version| Span(FIRST, version);
        Self {
            maps: Span(EARLIEST_ABI, ABI_VERSION),
            keeper: since_first(keeper::PROTOCOL),
            ledger: since_first(LEDGER_VERSION),
            journal: since_first(SCHEMA),
        }
    }

    /// The first layout of this program, which is in use, that `takes` does not include.
    pub(crate) fn unfit_for(self, takes: Self) -> Option<Unfit> {
        let pairs = [
            ("the pinned maps", self.maps, takes.maps),
            ("the keepers' protocol", self.keeper, takes.keeper),
            ("the ledger", self.ledger, takes.ledger),
            ("the journal", self.journal, takes.journal),
        ];
        let unfit = |&(_, own, takes): &(&str, Span, Span)| !takes.includes(own.1);
        let (what, own, takes) = pairs.into_iter().find(unfit)?;
        Some(Unfit {
            what,
            found: own.1,
            takes,
        })
    }
}

impl Span {
    fn includes(self, version: u32) -> bool {
        (self.0..=self.1).contains(&version)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 {
            write!(f, "{}", self.0)
        } else {
            write!(f, "{} to {}", self.0, self.1)
        }
    }
}

impl Hello {
    /// This program's.
    pub(crate) fn own() -> Self {
        Self {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            api: wire::VERSION,
            takes: Layouts::own(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_reads_earlier_layouts_fits() {
        let own = Layouts::own();
        assert_eq!(own.unfit_for(own), None);
        let reads_earlier = Layouts {
            maps: Span(own.maps.0, own.maps.1 + 3),
            ..own
        };
        assert_eq!(own.unfit_for(reads_earlier), None);
        let later_only = Layouts {
            ledger: Span(own.ledger.1 + 1, own.ledger.1 + 2),
            ..own
        };
        let unfit = own.unfit_for(later_only).unwrap();
        assert_eq!(unfit.what, "the ledger");
        assert_eq!(unfit.found, own.ledger.1);
    }

    #[test]
    fn fields_of_later_releases_are_passed_over() {
        let text = r#"{"hello":{"protocol":1,"version":"9.0.0","pid":7,"api":2,"colour":"red",
            "takes":{"maps":[1,2],"keeper":[1,1],"ledger":[1,1],"journal":[0,4],"more":[1,1]}}}"#;
        let FromSuccessor::Hello(hello) = serde_json::from_str(text).unwrap() else {
            panic!("no hello");
        };
        assert_eq!(hello.takes.maps, Span(1, 2));
    }
}
