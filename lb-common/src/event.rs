//! What the kernel programs tell the agent: rare events, through a ring buffer.

use core::net::{IpAddr, Ipv6Addr};

/// Length of an event in words.
pub const EVENT_WORDS: usize = 12;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A process bound one of the service's ports on an address that is not declared; refused.
    BindRefused = 1,
    /// The same, moved to the declared address.
    BindRewritten = 2,
    /// A process bound a declared address as another user than the group's owner.
    ForeignUser = 3,
    /// The last connection of a generation that is not active closed.
    Idle = 4,
    /// A process bound a declared address: a listener, or a UDP socket, is about to be.
    Bound = 5,
    /// A process that lives on closed a listener of a declared address.
    Closed = 6,
    /// A process had, or wanted, a socket at one of the service's ports bound to a device; refused.
    DeviceRefused = 7,
    /// A process wanted another program to decide about a group of the service's; refused.
    ProgramRefused = 8,
    /// A process outside the service's cgroups bound one of its reserved ports; refused.
    BindReserved = 9,
}

/// One event. `generation` is set for [`EventKind::Idle`] and [`EventKind::Closed`], the rest for
/// binds. In [`EventKind::DeviceRefused`] they say the device: `generation` its number, or `address` the bytes of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The generation's id, or 0.
    pub generation: u32,
    /// The thread group that bound.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Whether the bind was an IPv6 one.
    pub v6: bool,
    /// The port it asked for.
    pub port: u16,
    /// The address it asked for, in host-order words; IPv4 as IPv4-mapped.
    pub address: [u32; 4],
    /// The cgroup (v2) of the process.
    pub cgroup: u64,
}

impl Event {
    /// The event as it is sent.
    #[inline(always)]
    pub const fn to_words(self) -> [u32; EVENT_WORDS] {
        let [a, b, c, d] = self.address;
        [
            self.kind as u32,
            self.generation,
            self.pid,
            self.uid,
            self.v6 as u32,
            self.port as u32,
            a,
            b,
            c,
            d,
            self.cgroup as u32,
            (self.cgroup >> 32) as u32,
        ]
    }

    /// The event in these bytes, or `None` if they are not one of this version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut words = [0_u32; EVENT_WORDS];
        if bytes.len() != EVENT_WORDS * 4 {
            return None;
        }
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().ok()?);
        }
        let [kind, generation, pid, uid, v6, port, a, b, c, d, low, high] = words;
        let kind = match kind {
            1 => EventKind::BindRefused,
            2 => EventKind::BindRewritten,
            3 => EventKind::ForeignUser,
            4 => EventKind::Idle,
            5 => EventKind::Bound,
            6 => EventKind::Closed,
            7 => EventKind::DeviceRefused,
            8 => EventKind::ProgramRefused,
            9 => EventKind::BindReserved,
            _ => return None,
        };
        Some(Self {
            kind,
            generation,
            pid,
            uid,
            v6: v6 != 0,
            port: port as u16,
            address: [a, b, c, d],
            cgroup: u64::from(high) << 32 | u64::from(low),
        })
    }

    /// The number of the device, or its name, of [`EventKind::DeviceRefused`].
    pub fn device(&self) -> Result<u32, [u8; 16]> {
        if self.generation != 0 {
            return Ok(self.generation);
        }
        let mut name = [0_u8; 16];
        for (bytes, word) in name.chunks_exact_mut(4).zip(self.address) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        Err(name)
    }

    /// The address the process asked for.
    pub fn bound_address(&self) -> IpAddr {
        let mut octets = [0_u8; 16];
        for (bytes, word) in octets.chunks_exact_mut(4).zip(self.address) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        let v6 = Ipv6Addr::from(octets);
        match v6.to_ipv4_mapped() {
            Some(v4) if !self.v6 => IpAddr::V4(v4),
            _ => IpAddr::V6(v6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_round_trip() {
        let event = Event {
            kind: EventKind::BindRefused,
            generation: 0,
            pid: 7,
            uid: 33,
            v6: false,
            port: 8080,
            address: [0, 0, 0xffff, 0x7f00_0001],
            cgroup: 0x1234_5678_9abc_def0,
        };
        let mut bytes = [0_u8; EVENT_WORDS * 4];
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(event.to_words()) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        assert_eq!(Event::from_bytes(&bytes), Some(event));
        assert_eq!(event.bound_address(), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(Event::from_bytes(&bytes[1..]), None);
        bytes[0] = 99;
        assert_eq!(Event::from_bytes(&bytes), None);
    }
}
