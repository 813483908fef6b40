//! What the kernel side must know of a service before there is one.

use std::{net::SocketAddr, time::Duration};

use aya::maps::MapData;
use lb_common::{names, quic::Quic};

use super::pins::Pins;

/// What `join` must know of a service.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The listen addresses.
    pub addresses: Vec<SocketAddr>,
    /// The owner of the groups.
    pub uid: u32,
    /// UDP, if the service has any.
    pub datagrams: Option<DeclaredDatagrams>,
    /// [`lb_common::UNDECLARED_REFUSE`] or [`lb_common::UNDECLARED_REWRITE`].
    pub undeclared: u32,
    /// The cgroup of the agent, if only its programs may decide about the groups.
    pub steered_by: Option<u64>,
}

/// The UDP side of a service.
#[derive(Clone, Debug)]
pub struct DeclaredDatagrams {
    /// The addresses.
    pub addresses: Vec<SocketAddr>,
    /// Room for so many flows.
    pub table: u32,
    /// After how long without a datagram a flow is none any more; `None` for no flows at all.
    pub idle: Option<Duration>,
    /// How connections of QUIC are told apart; `None` if nobody looks at their ids.
    pub quic: Option<Quic>,
}

impl Declared {
    /// Whether pins exist whose groups are not those of this: the configuration changed.
    pub fn differs_from(&self, pins: &Pins) -> bool {
        let udp = self.datagram_addresses();
        pins.exist() && pins.group_count() != self.addresses.len() + udp.len()
            || pins.exist() && !self.addresses.iter().all(|&a| pins.group(a).is_dir())
            || pins.exist() && !udp.iter().all(|&a| pins.datagram_group(a).is_dir())
            || pins.exist() && self.has_other_table(pins)
    }

    /// Whether there is room for another number of flows, or of connection ids, than declared. A
    /// table cannot grow.
    fn has_other_table(&self, pins: &Pins) -> bool {
        if self.datagrams.is_none() {
            return false;
        }
        let room = |name: &'static str| {
            let made = MapData::from_pin(pins.map(name)).ok()?.info().ok()?;
            Some(made.max_entries())
        };
        // Pins that an agent made which knew of no ids have no such map.
        room(names::FLOWS) != Some(self.flows())
            || room(names::CONNECTION_IDS).unwrap_or(1) != self.connection_ids()
    }

    pub(super) fn datagram_addresses(&self) -> &[SocketAddr] {
        self.datagrams.as_ref().map_or(&[], |d| &d.addresses)
    }

    /// Room for so many flows.
    pub(super) fn flows(&self) -> u32 {
        self.datagrams.as_ref().map_or(1, |d| d.table)
    }

    /// Room for so many ids of connections: as small as can be where nobody looks at them.
    pub(super) fn connection_ids(&self) -> u32 {
        let table = |d: &DeclaredDatagrams| d.quic.map(|_| d.table);
        self.datagrams.as_ref().and_then(table).unwrap_or(1)
    }
}
