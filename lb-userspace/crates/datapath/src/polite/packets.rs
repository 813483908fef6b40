//! Asking clients to leave in the packets that their servers send: `leave` at the egress of the devices of the
//! service's network namespace, while a generation drains and no longer. The kernel takes it off when this process
//! ends, however it does.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aya::{
    maps::{Map, MapData},
    programs::SchedClassifier,
};
use hotlb_sys::{
    bpf, bpf_link,
    clock::Deadline,
    devices::{self, Device},
    netns::Netns,
    plain,
    tcp_info::TcpInfo,
};
use lb_common::{Begun, names};

use super::{
    super::{error::DatapathError, loaders::Constants, object, pins::Pins, verified::verified},
    Asked,
};

/// What a service has at least one of.
const GROUP: &str = "a group's pins";
/// How often devices are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long the program is not tried again that the kernel did not take.
const AGAIN: Duration = Duration::from_mins(1);

/// One service's.
pub(super) struct Packets {
    pins: Pins,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// From the first drain on.
    program: Option<Program>,
    /// While a generation drains.
    running: Option<Running>,
    /// The kernel did not take the program.
    refused: Option<Refused>,
}

/// `leave`, which sees nothing by itself.
struct Program {
    program: OwnedFd,
    begun: MapData,
}

#[derive(Default)]
struct Running {
    /// Those that send; without a link where the program could not be attached.
    devices: BTreeMap<Device, Option<OwnedFd>>,
    /// When they are looked for again.
    look: Option<Deadline>,
    /// Cookies of those that were asked, which may have ended.
    asked: HashSet<u64>,
    /// One that was asked is so no longer, and the program remembers what it sent.
    spared: bool,
}

struct Refused {
    why: String,
    /// When it is tried again.
    again: Deadline,
}

impl Packets {
    /// Finds out whether the kernel attaches programs beside others. The program itself is tried by the first drain,
    /// since to load it the kernel's types have to be read, which takes half a second.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        are_attached()?;
        Ok(Self {
            pins: pins.clone(),
            state: Mutex::default(),
        })
    }

    /// Loads the program, unless it is.
    ///
    /// # Errors
    ///
    /// When the kernel does not take it.
    pub(super) fn load(&self) -> Result<(), DatapathError> {
        if self.lock().program.is_some() {
            return Ok(());
        }
        // Not under the lock: it takes long, and `status` asks for what is behind it.
        let loaded = Program::load(&self.pins);
        let mut state = self.lock();
        state.refused = loaded.as_ref().err().map(Refused::because);
        state.program = Some(loaded?);
        Ok(())
    }

    /// Why the kernel did not take the program.
    pub(super) fn refusal(&self) -> Option<String> {
        self.lock()
            .refused
            .as_ref()
            .map(|refused| refused.why.clone())
    }

    /// Has the program see what the namespace's devices send: those that came since the last look too, if somebody is
    /// asked or `begins` to be. False where the kernel refused it a short while ago.
    ///
    /// # Errors
    ///
    /// When it cannot be loaded, or the devices are not known.
    pub(super) fn follow(&self, netns: &Netns, begins: bool) -> Result<bool, DatapathError> {
        {
            let state = self.lock();
            if state.refused.as_ref().is_some_and(Refused::holds) {
                return Ok(false);
            }
            if !begins && state.running.is_none() {
                return Ok(true);
            }
        }
        self.load()?;
        let State {
            program: Some(program),
            running,
            ..
        } = &mut *self.lock()
        else {
            return Ok(false);
        };
        let running = running.get_or_insert_default();
        if running.look.is_some_and(|look| look.left().is_some()) {
            return Ok(true);
        }
        running.look = Some(Deadline::after(LOOK));
        let followed = netns.inside(|| running.follow(program));
        followed.map_err(DatapathError::system("enter the network namespace"))??;
        Ok(true)
    }

    /// Asks the client of `socket` from the next response on.
    ///
    /// # Errors
    ///
    /// When the kernel refuses for a reason that is not the connection's.
    pub(super) fn ask(&self, cookie: u64, socket: &OwnedFd) -> Result<Asked, DatapathError> {
        let State {
            program: Some(program),
            running: Some(running),
            ..
        } = &mut *self.lock()
        else {
            return Ok(Asked::Not);
        };
        if !plain::sends_as_written(socket) {
            return Ok(Asked::Not);
        }
        let Ok(info) = TcpInfo::of(socket) else {
            return Ok(Asked::Not);
        };
        // What is sent from here on, until the program sees the connection, it can tell by these.
        let begun = Begun {
            received: info.bytes_received,
            acknowledged: info.bytes_acknowledged,
            silent: info.all_has_arrived(),
            request_waits: info.request_waits(),
        };
        match bpf::give_storage(program.begun.fd().as_fd(), socket, begun.to_words()) {
            Ok(()) => {
                running.asked.insert(cookie);
                Ok(Asked::Now)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Asked::Before),
            Err(error) => Err(DatapathError::system("give a connection its value")(error)),
        }
    }

    /// Asks the client of `socket` no longer. What was changed is changed as well when it is sent again.
    pub(super) fn release(&self, cookie: u64, socket: &OwnedFd) -> io::Result<()> {
        let State {
            program: Some(program),
            running: Some(running),
            ..
        } = &mut *self.lock()
        else {
            return Ok(());
        };
        running.spared |= running.asked.remove(&cookie);
        match bpf::take_storage(program.begun.fd().as_fd(), socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks nobody any more: nothing is attached, and nothing is known of any connection. The program is kept for the
    /// next drain where none of those it knows is among the `open` ones any more; what it knows of another it would take
    /// for what that one does then.
    pub(super) fn rest(&self, open: impl FnOnce() -> Option<HashSet<u64>>) {
        let Some(over) = self.lock().running.take() else {
            return;
        };
        let all_ended = || open().is_some_and(|open| over.asked.is_disjoint(&open));
        if over.spared || !over.asked.is_empty() && !all_ended() {
            self.lock().program = None;
        }
    }

    /// How many of the open connections are being asked.
    pub(super) fn leaving(&self, open: impl FnOnce() -> HashSet<u64>) -> u64 {
        let asked = self
            .lock()
            .running
            .as_ref()
            .map(|running| running.asked.clone());
        match asked {
            Some(asked) if !asked.is_empty() => asked.intersection(&open()).count() as u64,
            _ => 0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    fn because(error: &DatapathError) -> Self {
        Self {
            why: error.to_string(),
            again: Deadline::after(AGAIN),
        }
    }

    fn holds(&self) -> bool {
        self.again.left().is_some()
    }
}

impl Program {
    fn load(pins: &Pins) -> Result<Self, DatapathError> {
        let group = pins.first_group();
        let group = group.ok_or(DatapathError::Missing(GROUP))?;
        let mut object = object::load_knowing(pins, &group, Constants::default())?;
        let Some(Map::SkStorage(begun)) = object.take_map(names::BEGUN) else {
            return Err(DatapathError::Missing(names::BEGUN));
        };
        let refused = |error| DatapathError::program(names::LEAVE)(error);
        let program: &mut SchedClassifier = object
            .program_mut(names::LEAVE)
            .ok_or(DatapathError::Missing(names::LEAVE))?
            .try_into()
            .map_err(refused)?;
        verified(|| program.load()).map_err(refused)?;
        let program = program.fd().map_err(refused)?.as_fd().try_clone_to_owned();
        Ok(Self {
            program: program.map_err(DatapathError::system("keep a program"))?,
            begun,
        })
    }
}

impl Running {
    /// In the namespace of the service. The program runs last of those that are attached there.
    fn follow(&mut self, program: &Program) -> Result<(), DatapathError> {
        let found =
            devices::that_send().map_err(DatapathError::system("list the network devices"))?;
        self.devices.retain(|device, _| found.contains(device));
        for device in found {
            if self.devices.get(&device).is_some_and(Option::is_some) {
                continue;
            }
            let link = match bpf_link::link_to_device(program.program.as_fd(), device.index) {
                Ok(link) => Some(link),
                // Tried again at the next look, and said once. It may be gone by now.
                Err(error) => {
                    if !self.devices.contains_key(&device) {
                        tracing::warn!(
                            device = device.name,
                            %error,
                            "failed to attach to a network device; clients behind it are not asked \
                             to leave"
                        );
                    }
                    None
                }
            };
            self.devices.insert(device, link);
        }
        Ok(())
    }
}

/// Whether the kernel attaches tc programs to devices beside others.
///
/// # Errors
///
/// Why not.
pub(super) fn are_attached() -> Result<(), DatapathError> {
    let asked = bpf_link::takes_links_to_devices();
    if asked.map_err(DatapathError::system("ask for links of tc programs"))? {
        return Ok(());
    }
    Err(DatapathError::Program {
        name: names::LEAVE,
        reason:
            "this kernel has no links of tc programs to devices (tcx), which came with Linux 6.6"
                .to_owned(),
    })
}
