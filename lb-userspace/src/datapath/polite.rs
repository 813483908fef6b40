//! Asking clients to leave: the sockets `polite` runs for, and what it counted.

use std::{
    collections::BTreeMap,
    fmt, io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{Mutex, PoisonError},
};

use aya::{
    maps::{Map, MapData, MapError, PerCpuArray, SockHash},
    programs::SkMsg,
};
use lb_common::{Conversation, POLITE_CELLS, PoliteCell, names};

use super::{
    error::DatapathError, loaders::Constants, object, pins::Pins, service::sum, verified::verified,
};
use crate::sys::{bpf, tcp_info::TcpInfo};

/// One service's polite drain.
pub struct Polite {
    leaving: Mutex<SockHash<MapData, u64>>,
    conversations: MapData,
    counts: PerCpuArray<MapData, [u64; POLITE_CELLS]>,
}

impl fmt::Debug for Polite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polite").finish_non_exhaustive()
    }
}

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
    /// Opens the service's pins; loads and attaches the program if no agent has yet. It stays
    /// attached as long as its map exists.
    ///
    /// # Errors
    ///
    /// When the kernel cannot run it. Nothing else depends on it.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let map = |name: &'static str| {
            MapData::from_pin(pins.map(name)).map_err(DatapathError::map(name))
        };
        let leaving = SockHash::try_from(Map::SockHash(map(names::LEAVING)?))
            .map_err(DatapathError::map(names::LEAVING))?;
        let pin = pins.link(names::POLITE);
        if !pin.exists() {
            attach(pins, &leaving)?;
        }
        Ok(Self {
            leaving: Mutex::new(leaving),
            conversations: map(names::CONVERSATIONS)?,
            counts: PerCpuArray::try_from(Map::PerCpuArray(map(names::POLITENESS)?))
                .map_err(DatapathError::map(names::POLITENESS))?,
        })
    }

    /// Asks the client of `socket` to leave after its current response. The socket leaves by
    /// itself when it is closed; give the duplicate up at once.
    ///
    /// # Errors
    ///
    /// When the kernel refuses for a reason that is not the connection's.
    pub fn ask(&self, cookie: u64, socket: &OwnedFd) -> Result<Asked, DatapathError> {
        // From the insertion on, the program sees every message; so what the connection looked
        // like is asked for only afterwards, and given to it only if it has seen none yet.
        match self.insert(cookie, socket) {
            Ok(()) => {}
            Err(error) => return refusal(error),
        }
        if let Ok(info) = TcpInfo::of(socket) {
            let begun = Conversation::new(info.bytes_received, info.request_waits());
            let given =
                bpf::give_storage(self.conversations.fd().as_fd(), socket, begun.to_storage());
            if let Err(error) = given.or_else(unless_there) {
                // The program makes its own at the first message; the client leaves a response
                // later.
                tracing::debug!(%error, "no conversation given");
            }
        }
        Ok(Asked::Now)
    }

    /// Asks no longer. It need not have been asked.
    pub fn release(&self, cookie: u64) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        // Closed meanwhile: it is out already.
        let _gone = leaving.remove(&cookie);
    }

    /// How many connections are being asked now.
    pub fn leaving(&self) -> u64 {
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.keys().flatten().count() as u64
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

    fn insert(&self, cookie: u64, socket: &OwnedFd) -> Result<(), MapError> {
        const BPF_NOEXIST: u64 = 1;
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.insert(cookie, socket.as_raw_fd(), BPF_NOEXIST)
    }
}

fn attach(pins: &Pins, leaving: &SockHash<MapData, u64>) -> Result<(), DatapathError> {
    let group = pins
        .first_group()
        .ok_or(DatapathError::Missing("a group's pins"))?;
    let mut object = object::load_knowing(pins, &group, Constants::default())?;
    let polite: &mut SkMsg = object
        .program_mut(names::POLITE)
        .ok_or(DatapathError::Missing(names::POLITE))?
        .try_into()
        .map_err(DatapathError::program(names::POLITE))?;
    verified(|| polite.load()).map_err(DatapathError::program(names::POLITE))?;
    let pin = pins.link(names::POLITE);
    let program = polite.fd().map_err(DatapathError::program(names::POLITE))?;
    // aya's own attachment ends with its guard; the map's lasts as long as the map.
    bpf::attach_to_messages(leaving.fd().as_fd(), program.as_fd())
        .map_err(DatapathError::system("attach polite to its sockets"))?;
    polite.pin(&pin).map_err(DatapathError::pin(pin.clone()))
}

fn refusal(error: MapError) -> Result<Asked, DatapathError> {
    let errno = match &error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match errno {
        Some(libc::EEXIST) => Ok(Asked::Before),
        // Not established any more, kernel TLS, MPTCP; no room in the map.
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::E2BIG | libc::EBUSY) => Ok(Asked::Not),
        _ => Err(DatapathError::map(names::LEAVING)(error)),
    }
}

fn unless_there(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::AlreadyExists {
        Ok(())
    } else {
        Err(error)
    }
}
