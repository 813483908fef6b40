//! How long clients of a generation wait, as the kernel programs measured it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::{
    maps::{Array, Map, MapData},
    programs::{BtfTracePoint, links::FdLink},
};
use lb_common::{BUCKETS, GenerationId, HISTOGRAM_WORDS, Latency, names, recent::port_bit};

use super::{
    DatapathError, Histogram, Latencies, loaders::Constants, loading, object,
    pins::{Pins, unpin},
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

/// Whether reads and writes are measured.
pub(super) fn is_on(pins: &Pins) -> bool {
    PROGRAMS.iter().all(|(name, _)| pins.link(name).exists())
}

/// Measures reads and writes from now on; they go on being measured when the agent has ended.
///
/// # Errors
///
/// When the kernel lacks a tracepoint (before 6.3) or does not describe its types.
pub(super) fn turn_on(pins: &Pins, ports: impl Iterator<Item = u16>) -> Result<(), DatapathError> {
    turn_off(pins);
    let group = pins
        .first_group()
        .ok_or(DatapathError::Missing("a group's pins"))?;
    let constants = Constants {
        port_bits: ports.fold(0, |bits, port| bits | port_bit(port)),
        ..Constants::default()
    };
    let mut object = object::load_knowing(pins, &group, constants)?;
    let types = loading::types()?;
    let turned = PROGRAMS.iter().try_for_each(|&(name, tracepoint)| {
        let program: &mut BtfTracePoint = object
            .program_mut(name)
            .ok_or(DatapathError::Missing(name))?
            .try_into()
            .map_err(DatapathError::program(name))?;
        let link = program
            .load(tracepoint, &types)
            .and_then(|()| program.attach())
            .and_then(|id| program.take_link(id))
            .map_err(DatapathError::program(name))?;
        let pin = pins.link(name);
        FdLink::from(link)
            .pin(&pin)
            .map(drop)
            .map_err(DatapathError::pin(pin))
    });
    if turned.is_err() {
        turn_off(pins);
    }
    turned
}

/// Measures reads and writes no longer.
pub(super) fn turn_off(pins: &Pins) {
    for (name, _) in PROGRAMS {
        unpin(&pins.link(name));
    }
}
