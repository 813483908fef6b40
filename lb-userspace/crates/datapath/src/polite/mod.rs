//! Asking clients to leave: how, and what came of it.

mod honesty;
mod messages;
mod packets;

use std::{
    collections::{BTreeMap, HashSet},
    fmt, io,
    os::fd::OwnedFd,
};

use aya::{
    Ebpf,
    maps::{Map, MapData, PerCpuArray},
};
use hotlb_sys::netns::Netns;
use lb_common::{POLITE_CELLS, PoliteCell, names};

use self::{messages::Messages, packets::Packets};
use super::{error::DatapathError, pins::Pins, service::sum};

/// What came of asking one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Its next response will say `close`, if that can be said.
    Now,
    /// It was asked before.
    Before,
    /// It cannot be asked: it is closing, speaks kernel TLS, or there is no room.
    Not,
}

/// Why clients cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impolite {
    /// What the kernel said.
    reason: String,
    /// A server would wait for bytes that it has.
    silences: bool,
}

impl Impolite {
    /// What the kernel said.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether a server waits for bytes that it has, on a connection whose client an agent before this one asked.
    pub const fn silences(&self) -> bool {
        self.silences
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "what `map_err` hands over is given up"
    )]
    fn because(reason: DatapathError) -> Self {
        Self {
            reason: reason.to_string(),
            silences: false,
        }
    }
}

/// By what clients are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The messages that their server sends: `polite`.
    Messages,
    /// The packets: `leave`, where servers could not read on otherwise.
    Packets,
}

enum Asking {
    Messages(Messages),
    Packets(Packets),
}

/// One service's polite drain.
pub struct Polite {
    asking: Asking,
    counts: PerCpuArray<MapData, [u64; POLITE_CELLS]>,
}

impl fmt::Debug for Polite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polite").finish_non_exhaustive()
    }
}

/// How the heads that `polite` looked at were dealt with, since the service was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoliteCounts(BTreeMap<&'static str, u64>);

impl PoliteCounts {
    /// By [`PoliteCell::name`].
    pub fn by_name(&self) -> &BTreeMap<&'static str, u64> {
        &self.0
    }

    /// How many were dealt with so.
    pub fn of(&self, cell: PoliteCell) -> u64 {
        self.0.get(cell.name()).copied().unwrap_or_default()
    }
}

impl Polite {
    /// Opens the service's pins, and finds out whether clients can be asked without harm. Where they cannot, those
    /// that an agent before this one asked are so no longer.
    ///
    /// # Errors
    ///
    /// Why nobody is asked. Nothing else depends on it.
    pub(super) fn open(pins: &Pins) -> Result<Self, Impolite> {
        let messages = Messages::open(pins).map_err(Impolite::because)?;
        let counts = counts(pins).map_err(Impolite::because)?;
        let asking = match messages.are_read() {
            Ok(()) => Asking::Messages(messages),
            Err(unfit) => {
                let taken_out = messages.empty();
                if taken_out > 0 {
                    tracing::warn!(
                        taken_out,
                        "stopped asking clients by messages, which kept their servers from reading"
                    );
                }
                let packets = Packets::open(pins).map_err(|why| Impolite {
                    reason: format!("{unfit}; nor can packets be changed: {why}"),
                    silences: true,
                })?;
                Asking::Packets(packets)
            }
        };
        Ok(Self { asking, counts })
    }

    /// By what clients are asked.
    pub const fn way(&self) -> Way {
        match self.asking {
            Asking::Messages(_) => Way::Messages,
            Asking::Packets(_) => Way::Packets,
        }
    }

    /// Whether a server waits for bytes that it has, on a connection whose client an agent before this one asked.
    pub const fn silences(&self) -> bool {
        matches!(self.asking, Asking::Packets(_))
    }

    /// Tries, before the first drain does, whether clients can be asked.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn try_out(&self) -> Result<(), DatapathError> {
        match &self.asking {
            Asking::Messages(_) => Ok(()),
            Asking::Packets(packets) => packets.load(),
        }
    }

    /// Why nobody was asked at the last drain.
    pub fn refusal(&self) -> Option<String> {
        match &self.asking {
            Asking::Messages(_) => None,
            Asking::Packets(packets) => packets.refusal(),
        }
    }

    /// Has the service's network devices followed, if somebody is asked or `begins` to be. To be called again and again,
    /// for devices come and go. False where the kernel refused it a short while ago; nobody is asked then.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, likewise.
    pub fn follow(&self, netns: &Netns, begins: bool) -> Result<bool, DatapathError> {
        match &self.asking {
            Asking::Messages(_) => Ok(true),
            Asking::Packets(packets) => packets.follow(netns, begins),
        }
    }

    /// Asks the client of `socket` to leave after its current response. The socket leaves by
    /// itself when it is closed; give the duplicate up at once.
    ///
    /// # Errors
    ///
    /// When the kernel refuses for a reason that is not the connection's.
    pub fn ask(&self, cookie: u64, socket: &OwnedFd) -> Result<Asked, DatapathError> {
        match &self.asking {
            Asking::Messages(messages) => messages.ask(cookie, socket),
            Asking::Packets(packets) => packets.ask(cookie, socket),
        }
    }

    /// Asks the client of this connection no longer. It need not have been asked. By packets it takes [`Self::spare`].
    pub fn release(&self, cookie: u64) {
        if let Asking::Messages(messages) = &self.asking {
            messages.release(cookie);
        }
    }

    /// Asks the client of `socket` no longer, while others are asked on. It need not have been asked.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn spare(&self, cookie: u64, socket: &OwnedFd) -> io::Result<()> {
        match &self.asking {
            Asking::Messages(messages) => {
                messages.release(cookie);
                Ok(())
            }
            Asking::Packets(packets) => packets.release(cookie, socket),
        }
    }

    /// No generation drains any more: by packets, nothing is attached to a device from here on. Who is still `open` is
    /// asked for only if it matters.
    pub fn rest(&self, open: impl FnOnce() -> Option<HashSet<u64>>) {
        if let Asking::Packets(packets) = &self.asking {
            packets.rest(open);
        }
    }

    /// How many connections are being asked now, of those that are `open`.
    pub fn leaving(&self, open: impl FnOnce() -> HashSet<u64>) -> u64 {
        match &self.asking {
            Asking::Messages(messages) => messages.leaving(),
            Asking::Packets(packets) => packets.leaving(open),
        }
    }

    /// What became of the heads so far.
    pub fn counts(&self) -> PoliteCounts {
        let cells = self
            .counts
            .get(&0, 0)
            .map_or([0; POLITE_CELLS], |cpus| sum(&cpus));
        let count = |cell: PoliteCell| cells.get(cell.index()).copied().unwrap_or_default();
        PoliteCounts(
            PoliteCell::ALL
                .into_iter()
                .map(|cell| (cell.name(), count(cell)))
                .collect(),
        )
    }
}

fn counts(pins: &Pins) -> Result<PerCpuArray<MapData, [u64; POLITE_CELLS]>, DatapathError> {
    let map = MapData::from_pin(pins.map(names::POLITENESS));
    map.and_then(|map| PerCpuArray::try_from(Map::PerCpuArray(map)))
        .map_err(DatapathError::map(names::POLITENESS))
}

/// Whether servers read on while their clients are asked, as [`messages::try_reading`] says.
pub(super) fn try_reading(object: &mut Ebpf) -> Result<(), String> {
    messages::try_reading(object)
}

/// Whether the kernel attaches `leave` to devices, as [`packets::are_attached`] says.
pub(super) fn try_attaching() -> Result<(), String> {
    packets::are_attached().map_err(|error| error.to_string())
}
