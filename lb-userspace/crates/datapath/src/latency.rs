//! How long clients of a generation wait, as the kernel programs measured it.

use std::{
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::{
    maps::{Array, Map, MapData},
    programs::{BtfTracePoint, links::FdLink},
};
use hotlb_sys::netns::Netns;
use lb_common::{
    BUCKETS, GenerationId, HISTOGRAM_WORDS, Latency, names, recent::port_bit, watched::key,
};

use super::{
    DatapathError, Histogram, Latencies,
    loaders::Constants,
    loading, object,
    pins::{Pins, replace, unpin},
    verified::verified,
    watched::{self, OfAll},
};

/// The programs, and the kernel's tracepoints they are attached to.
const PROGRAMS: [(&str, &str); 2] = [
    (names::RECEIVED, "sock_recv_length"),
    (names::SENT, "sock_send_length"),
];

/// The tracepoint of the program `name`.
pub(super) fn tracepoint(name: &str) -> Option<&'static str> {
    let (_, tracepoint) = PROGRAMS.iter().find(|(program, _)| *program == name)?;
    Some(tracepoint)
}

/// The table of histograms. Few of its rows are in use, so it is read by the row and not mapped.
pub(super) struct Histograms(Mutex<Array<MapData, [u64; HISTOGRAM_WORDS]>>);

impl Histograms {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        MapData::from_pin(pins.map(names::LATENCY))
            .and_then(|map| Array::try_from(Map::Array(map)))
            .map(|table| Self(Mutex::new(table)))
            .map_err(DatapathError::map(names::LATENCY))
    }

    /// What is measured at a seat.
    pub(super) fn at(&self, seat: u32) -> Latencies {
        Latencies {
            queue_wait: self.of(Latency::QueueWait, seat),
            service_time: self.of(Latency::ServiceTime, seat),
            lifetime: self.of(Latency::Lifetime, seat),
        }
    }

    /// One of them.
    pub(super) fn of(&self, latency: Latency, seat: u32) -> Histogram {
        let row = self.table().get(&latency.row(seat), 0);
        let row = row.unwrap_or([0; HISTOGRAM_WORDS]);
        let sum = row.last().copied().unwrap_or_default();
        Histogram::new(row.into_iter().take(BUCKETS), sum)
    }

    /// Forgets what a generation's seat held before it.
    pub(super) fn clear(&self, generation: GenerationId) -> Result<(), DatapathError> {
        Latency::ALL.into_iter().try_for_each(|latency| {
            let row = latency.row(generation.seat());
            self.table()
                .set(row, [0; HISTOGRAM_WORDS], 0)
                .map_err(DatapathError::map(names::LATENCY))
        })
    }

    fn table(&self) -> MutexGuard<'_, Array<MapData, [u64; HISTOGRAM_WORDS]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A service's listeners, as the tables of all services have them.
#[derive(Debug)]
pub(super) struct Places {
    namespace: u32,
    ports: Vec<u16>,
}

impl Places {
    /// These ports of the network namespace.
    ///
    /// # Errors
    ///
    /// When /proc does not say which namespace it is.
    pub(super) fn new(
        netns: &Netns,
        ports: impl Iterator<Item = u16>,
    ) -> Result<Self, DatapathError> {
        let inode = netns
            .inode()
            .and_then(|inode| u32::try_from(inode).map_err(io::Error::other));
        let mut ports: Vec<u16> = ports.collect();
        ports.sort_unstable();
        ports.dedup();
        Ok(Self {
            namespace: inode.map_err(DatapathError::system("find the network namespace"))?,
            ports,
        })
    }

    fn keys(&self) -> Vec<u64> {
        let ports = self.ports.iter();
        ports.map(|&port| key(self.namespace, port)).collect()
    }
}

/// Whether reads and writes are measured, by programs of whatever object.
pub(super) fn is_on(pins: &Pins, places: &Places) -> Result<bool, DatapathError> {
    let own = PROGRAMS.iter().all(|(name, _)| pins.link(name).exists());
    Ok(own || OfAll::any_has(pins, &places.keys(), &PROGRAMS.map(|(name, _)| name))?)
}

/// Whether they are by programs of the present object, if those of the service are of it.
pub(super) fn is_present(pins: &Pins, places: &Places) -> Result<bool, DatapathError> {
    let has_own = PROGRAMS.iter().all(|(name, _)| pins.link(name).exists());
    let all = OfAll::beside(pins);
    let is_run = || PROGRAMS.iter().all(|(name, _)| all.pin(name).exists());
    Ok(has_own || is_run() && all.has(pins, &places.keys())?)
}

/// Measures reads and writes by the present programs from now on; they go on being measured when the
/// agent has ended.
///
/// # Errors
///
/// When the kernel lacks a tracepoint (before 6.3) or does not describe its types.
pub(super) fn turn_on(pins: &Pins, places: &Places) -> Result<(), DatapathError> {
    let turned = turn_on_where(pins, places).and_then(|()| OfAll::leave_others(pins));
    if turned.is_err() {
        turn_off(pins)?;
    }
    turned
}

fn turn_on_where(pins: &Pins, places: &Places) -> Result<(), DatapathError> {
    let all = OfAll::beside(pins);
    if all.enter(pins, &places.keys())? {
        run_for_all(pins, &all)?;
        unpin_own(pins);
        return Ok(());
    }
    // It may have had other ports.
    all.leave(pins)?;
    let of_its_own = Constants {
        port_bits: places
            .ports
            .iter()
            .fold(0, |bits, &port| bits | port_bit(port)),
        ..Constants::default()
    };
    attach(pins, of_its_own, |name| pins.link(name))
}

fn run_for_all(pins: &Pins, all: &OfAll) -> Result<(), DatapathError> {
    // The others wait until there are programs for all.
    static ATTACHING: Mutex<()> = Mutex::new(());
    let _turn = ATTACHING.lock().unwrap_or_else(PoisonError::into_inner);
    if PROGRAMS.iter().all(|(name, _)| all.pin(name).exists()) {
        return Ok(());
    }
    let for_all = Constants {
        for_all: 1,
        ..Constants::default()
    };
    attach(pins, for_all, |name| all.pin(name))
}

fn attach(
    pins: &Pins,
    constants: Constants,
    pin: impl Fn(&str) -> PathBuf,
) -> Result<(), DatapathError> {
    let group = pins
        .first_group()
        .ok_or(DatapathError::Missing("a group's pins"))?;
    let mut object = object::load_knowing(pins, &group, constants)?;
    let types = loading::types()?;
    PROGRAMS.iter().try_for_each(|&(name, tracepoint)| {
        let program: &mut BtfTracePoint = object
            .program_mut(name)
            .ok_or(DatapathError::Missing(name))?
            .try_into()
            .map_err(DatapathError::program(name))?;
        let link = verified(|| program.load(tracepoint, &types))
            .and_then(|()| program.attach())
            .and_then(|id| program.take_link(id))
            .map_err(DatapathError::program(name))?;
        replace(&pin(name), |pin| FdLink::from(link).pin(pin))
    })
}

/// Measures reads and writes no longer.
pub(super) fn turn_off(pins: &Pins) -> Result<(), DatapathError> {
    unpin_own(pins);
    watched::leave_all(pins)
}

fn unpin_own(pins: &Pins) {
    for (name, _) in PROGRAMS {
        unpin(&pins.link(name));
    }
}
