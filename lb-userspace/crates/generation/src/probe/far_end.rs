//! The server's end of a probe's connection: who has it, and whether he has taken it.
//!
//! The client's end says nothing about either. The kernel completes the handshake by itself, and what
//! looks like an answer may be that of another generation, to which a connection is handed whose
//! listener closes.

use std::{collections::HashSet, net::SocketAddr};

use lb_common::{Exit, GenerationId};

use super::ProbeError;
use crate::{
    datapath::ServicePath,
    sys::{
        cgroup::Cgroup,
        established::{self, Between, Connection, State},
        netns::Netns,
    },
};

/// Who is to be asked.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The kernel side of its service.
    pub path: &'a ServicePath,
    /// Its network.
    pub netns: &'a Netns,
    /// The generation.
    pub generation: GenerationId,
    /// Where its processes live. A connection belongs to the cgroup of its listener.
    pub cgroup: &'a Cgroup,
}

/// What is seen of the server's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing (any more), or not whose it is.
    Nothing,
    /// A handshake that is not over: the listener may wait for data (`TCP_DEFER_ACCEPT`).
    Handshake,
    /// It waits in a queue of the candidate's.
    Queued,
    /// The candidate took it.
    Accepted,
    /// It came to a listener that is not the candidate's.
    Astray,
}

/// The server's end of one connection.
pub(super) struct FarEnd<'a> {
    candidate: Candidate<'a>,
    address: SocketAddr,
    own: HashSet<u64>,
    /// How many listeners it had before, and how often `steer` had led somebody by a ticket.
    listeners: u32,
    led: u64,
}

impl<'a> FarEnd<'a> {
    /// Where the candidate is asked, as the service declares it.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Looks before there is a connection.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Unlisted`] when the candidate has no listener that could get one.
    pub(super) fn before(
        candidate: Candidate<'a>,
        address: SocketAddr,
    ) -> Result<Self, ProbeError> {
        let end = Self {
            candidate,
            address,
            own: candidate.cgroup.ids().into_iter().collect(),
            listeners: listeners(candidate, address),
            led: led(candidate.path),
        };
        match end.listeners {
            0 => Err(ProbeError::Unlisted(address)),
            _ => Ok(end),
        }
    }

    /// What there is now of the connection from `source` to `target`.
    pub(super) fn look(&self, source: SocketAddr, target: SocketAddr) -> Result<Seen, ProbeError> {
        let between = established::between(self.candidate.netns, target, source)?;
        Ok(seen(between, &self.own))
    }

    /// Whether `steer` led the connection to the candidate, for where the connection itself does not
    /// say whose it is (any more).
    pub(super) fn was_led(&self) -> bool {
        led(self.candidate.path) > self.led
    }

    /// An error if nothing says that it was the candidate who answered.
    pub(super) fn confirm(&self, source: SocketAddr, target: SocketAddr) -> Result<(), ProbeError> {
        match self.look(source, target)? {
            Seen::Queued | Seen::Accepted => Ok(()),
            Seen::Handshake | Seen::Nothing if self.was_led() => Ok(()),
            Seen::Handshake | Seen::Nothing | Seen::Astray => {
                Err(ProbeError::Unlisted(self.address))
            }
        }
    }

    /// An error if a listener of the candidate's has closed meanwhile: who waited in it may have
    /// been handed to another generation.
    pub(super) fn kept_its_listeners(&self) -> Result<(), ProbeError> {
        if listeners(self.candidate, self.address) < self.listeners {
            return Err(ProbeError::Unlisted(self.address));
        }
        Ok(())
    }
}

fn listeners(candidate: Candidate<'_>, address: SocketAddr) -> u32 {
    let mut groups = candidate.path.groups().iter();
    groups
        .find(|group| group.address() == address)
        .map_or(0, |group| group.live_listeners(candidate.generation))
}

fn led(path: &ServicePath) -> u64 {
    path.steering_counts().exits(Exit::Ticket, false)
}

fn seen(between: Between, own: &HashSet<u64>) -> Seen {
    match between {
        Between::Nothing => Seen::Nothing,
        Between::Handshake => Seen::Handshake,
        Between::Open(connection) => seen_open(&connection, own),
    }
}

fn seen_open(connection: &Connection, own: &HashSet<u64>) -> Seen {
    match connection.cgroup {
        // What is left of one that the server has closed does not say whose it was.
        None => Seen::Nothing,
        Some(id) if !own.contains(&id) => Seen::Astray,
        // Nobody has accepted it, and nobody has closed it either.
        Some(_) if connection.inode == 0 && connection.state == State::Established => Seen::Queued,
        Some(_) => Seen::Accepted,
    }
}
