//! What the kernel side must know of a service before there is one.

use std::{net::SocketAddr, time::Duration};

use lb_common::quic::Quic;

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
