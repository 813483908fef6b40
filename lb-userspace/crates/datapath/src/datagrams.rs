//! The UDP side of a service's part of the kernel.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use aya::maps::MapData;
use lb_common::{GenerationId, names};

use super::{
    declared::Declared,
    error::DatapathError,
    flows::Flows,
    group::{Group, Registered},
    pins::Pins,
    service::ServicePath,
};

impl ServicePath {
    /// Whether pins exist whose groups are not those of `declared`: the configuration changed.
    pub fn is_of_other_addresses(pins: &Pins, declared: &Declared) -> bool {
        let udp = declared.datagram_addresses();
        pins.exist() && pins.group_count() != declared.addresses.len() + udp.len()
            || pins.exist() && !declared.addresses.iter().all(|&a| pins.group(a).is_dir())
            || pins.exist() && !udp.iter().all(|&a| pins.datagram_group(a).is_dir())
            || pins.exist() && Self::has_other_table(pins, declared)
    }

    /// Whether there is room for another number of flows, or of connection ids, than declared. A
    /// table cannot grow.
    fn has_other_table(pins: &Pins, declared: &Declared) -> bool {
        if declared.datagrams.is_none() {
            return false;
        }
        let room = |name: &'static str| {
            let made = MapData::from_pin(pins.map(name)).ok()?.info().ok()?;
            Some(made.max_entries())
        };
        // Pins that an agent made which knew of no ids have no such map.
        room(names::FLOWS) != Some(declared.flows())
            || room(names::CONNECTION_IDS).unwrap_or(1) != declared.connection_ids()
    }

    /// The groups of UDP sockets, one for each declared address, in that order.
    pub fn datagram_groups(&self) -> &[Group] {
        &self.datagram_groups
    }

    /// All groups.
    pub fn all_groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().chain(&self.datagram_groups)
    }

    /// The flows of UDP clients; `None` for a service without UDP.
    pub fn flows(&self) -> Option<&Flows> {
        self.flows.as_ref()
    }

    /// Gives each of the generation's UDP sockets in a group a slot, and has `steer_udp` choose in it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a socket, or has no slots left.
    pub fn register_datagrams(
        &self,
        group: &Group,
        generation: GenerationId,
        sockets: &BTreeMap<u64, OwnedFd>,
    ) -> Result<Registered, DatapathError> {
        let registered = group.register(generation, sockets)?;
        if let Some(socket) = sockets.values().next() {
            group.attach(socket)?;
        }
        Ok(registered)
    }
}
