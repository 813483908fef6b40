//! How long clients of a generation wait, as the kernel programs measured it.

use aya::{
    Btf,
    maps::MapData,
    programs::{BtfTracePoint, links::FdLink},
};
use lb_common::{BUCKETS, GenerationId, HISTOGRAM_WORDS, LATENCIES, Latency, SEATS, names};

use super::{
    DatapathError, Histogram, object,
    pins::{Pins, unpin},
};
use crate::sys::{heap, mapped::MappedCells};

/// The programs, and the kernel's tracepoints they are attached to.
const PROGRAMS: [(&str, &str); 2] = [
    (names::RECEIVED, "sock_recv_length"),
    (names::SENT, "sock_send_length"),
];

/// The table of histograms.
#[derive(Debug)]
pub(super) struct Latencies(MappedCells);

impl Latencies {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let map = MapData::from_pin(pins.map(names::LATENCY))
            .map_err(DatapathError::map(names::LATENCY))?;
        let words = LATENCIES * SEATS as usize * HISTOGRAM_WORDS;
        MappedCells::new(map.fd(), words)
            .map(Self)
            .map_err(DatapathError::system("map the histograms"))
    }

    /// A generation's histogram.
    pub(super) fn of(&self, latency: Latency, generation: GenerationId) -> Histogram {
        let first = first_word(latency, generation);
        Histogram::new(
            (first..first + BUCKETS).map(|word| self.0.load(word)),
            self.0.load(first + BUCKETS),
        )
    }

    /// Forgets what a generation's seat held before it.
    pub(super) fn clear(&self, generation: GenerationId) {
        for latency in Latency::ALL {
            let first = first_word(latency, generation);
            (first..first + HISTOGRAM_WORDS).for_each(|word| self.0.store(word, 0));
        }
    }
}

fn first_word(latency: Latency, generation: GenerationId) -> usize {
    latency.row(generation.seat()) as usize * HISTOGRAM_WORDS
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
    let mut object = object::load_latency(pins, &group, ports)?;
    let types = Btf::from_sys_fs().map_err(|error| DatapathError::Types(error.to_string()))?;
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
    drop(types);
    heap::give_back();
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
