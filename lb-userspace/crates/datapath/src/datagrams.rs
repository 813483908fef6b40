//! The UDP side of a service's part of the kernel.

use super::{declared::Declared, error::DatapathError, flows::Flows, group::Group, pins::Pins};

/// The groups of UDP sockets and their clients' flows.
pub(super) struct Datagrams {
    groups: Vec<Group>,
    /// `None` for a service without UDP.
    flows: Option<Flows>,
}

impl Datagrams {
    pub(super) fn open(pins: &Pins, declared: &Declared) -> Result<Self, DatapathError> {
        let groups = declared
            .datagram_addresses()
            .iter()
            .map(|&address| Group::open_datagrams(pins, address))
            .collect::<Result<_, _>>()?;
        let flows = declared.datagrams.as_ref();
        let flows = flows.map(|datagrams| Flows::open(pins, datagrams.idle, datagrams.quic));
        Ok(Self {
            groups,
            flows: flows.transpose()?,
        })
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub(super) fn flows(&self) -> Option<&Flows> {
        self.flows.as_ref()
    }
}
