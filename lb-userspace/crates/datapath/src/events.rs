//! The ring buffer of events, and aya-log's, as one stream.

use std::{fmt, os::fd::AsFd as _, sync::Arc};

use aya::{
    maps::{Map, MapData, RingBuf},
    programs::ProgramInfo,
};
use aya_log::EbpfLogger;
use hotlb_sys::watch::Watched;
use lb_common::{Event, names};

use super::{error::DatapathError, pins::Pins};

/// Events of one service's programs, in the order they happened.
pub struct Events {
    ring: RingBuf<MapData>,
    arrived: Arc<Watched>,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Opens the service's ring buffers. Must be called within a tokio runtime.
    pub fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let map = MapData::from_pin(pins.map(names::EVENTS))
            .map_err(DatapathError::map(names::EVENTS))?;
        let ring =
            RingBuf::try_from(Map::RingBuf(map)).map_err(DatapathError::map(names::EVENTS))?;
        let arrived = ring
            .as_fd()
            .try_clone_to_owned()
            .and_then(Watched::readable)
            .map_err(DatapathError::system("watch the event ring"))?;
        Ok(Self {
            ring,
            arrived: Arc::new(arrived),
            log: logger(pins),
        })
    }

    /// What tells that there are some to take.
    pub fn arrived(&self) -> Arc<Watched> {
        Arc::clone(&self.arrived)
    }

    /// Those that have happened by now and were not taken yet. The programs' log records go to the log on the way.
    pub fn take(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(item) = self.ring.next() {
            events.extend(Event::from_bytes(&item));
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
        events
    }
}

/// The logger of `join`, the only program that logs.
fn logger(pins: &Pins) -> Option<EbpfLogger<&'static dyn log::Log>> {
    let id = ProgramInfo::from_pin(pins.link(names::JOIN4)).ok()?.id();
    EbpfLogger::init_from_id(id)
        .inspect_err(|error| tracing::warn!(%error, "failed to read the log of the eBPF programs"))
        .ok()
}
