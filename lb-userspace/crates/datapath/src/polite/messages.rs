//! Asking clients to leave by the messages that their servers send: the sockets `polite` runs for.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError, SockHash},
    programs::SkMsg,
};
use hotlb_sys::{bpf, tcp_info::TcpInfo};
use lb_common::{Conversation, names};

use super::{
    super::{error::DatapathError, loaders::Constants, object, pins::Pins, verified::verified},
    Asked,
    honesty::{self, Unfit},
};

/// The map of a service's connections whose messages are looked at.
pub(super) struct Messages {
    leaving: Mutex<SockHash<MapData, u64>>,
    conversations: MapData,
}

impl Messages {
    /// Opens the service's pins; loads and attaches the program if no agent has yet. It stays
    /// attached as long as its map exists.
    ///
    /// # Errors
    ///
    /// When the kernel cannot run it.
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
        })
    }

    /// Asks the client of `socket` to leave after its current response. The socket leaves by
    /// itself when it is closed; give the duplicate up at once.
    ///
    /// # Errors
    ///
    /// When the kernel refuses for a reason that is not the connection's.
    pub(super) fn ask(&self, cookie: u64, socket: &OwnedFd) -> Result<Asked, DatapathError> {
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
                tracing::debug!(%error, "failed to store what is known of a connection");
            }
        }
        Ok(Asked::Now)
    }

    /// Asks no longer. It need not have been asked.
    pub(super) fn release(&self, cookie: u64) {
        let mut leaving = self.leaving_map();
        // Closed meanwhile: it is out already.
        let _gone = leaving.remove(&cookie);
    }

    /// How many connections are being asked now.
    pub(super) fn leaving(&self) -> u64 {
        let leaving = self.leaving_map();
        leaving.keys().flatten().count() as u64
    }

    /// Whether servers read such connections as ever. It is not enough that the program runs.
    pub(super) fn are_read(&self) -> Result<(), Unfit> {
        honesty::of(&mut self.leaving_map())
    }

    /// Takes out all that an agent before this one has put in. Says how many.
    pub(super) fn empty(&self) -> usize {
        let mut leaving = self.leaving_map();
        let found: Vec<u64> = leaving.keys().flatten().collect();
        for cookie in &found {
            // Closed meanwhile: it is out already.
            let _gone = leaving.remove(cookie);
        }
        found.len()
    }

    fn leaving_map(&self) -> MutexGuard<'_, SockHash<MapData, u64>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, cookie: u64, socket: &OwnedFd) -> Result<(), MapError> {
        const BPF_NOEXIST: u64 = 1;
        let mut leaving = self.leaving_map();
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

/// Whether servers read on while their clients are asked, tried with an object that is loaded for this alone and
/// whose `polite` has passed the verifier.
pub(super) fn try_reading(object: &mut Ebpf) -> Result<(), String> {
    let missing = |name| DatapathError::Missing(name).to_string();
    let mut leaving: SockHash<MapData, u64> =
        object::taken(object, names::LEAVING).map_err(|error| error.to_string())?;
    let program: &mut SkMsg = object
        .program_mut(names::POLITE)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| missing(names::POLITE))?;
    let program = program.fd().map_err(|error| error.to_string())?;
    bpf::attach_to_messages(leaving.fd().as_fd(), program.as_fd())
        .map_err(|error| error.to_string())?;
    honesty::of(&mut leaving).map_err(|error| error.to_string())
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
