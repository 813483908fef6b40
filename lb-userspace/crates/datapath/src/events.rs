//! The ring buffer of events, and aya-log's, as one stream.

use std::{fmt, io, os::fd::AsFd as _};

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
    arrived: Watched,
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
            arrived,
            log: logger(pins),
        })
    }

    /// The next events, at least one. The programs' log records go to the log on the way.
    pub async fn next(&mut self) -> io::Result<Vec<Event>> {
        loop {
            let mut events = Vec::new();
            while let Some(item) = self.ring.next() {
                events.extend(Event::from_bytes(&item));
            }
            if let Some(log) = &mut self.log {
                log.flush();
            }
            if !events.is_empty() {
                return Ok(events);
            }
            self.arrived.next().await?;
        }
    }
}

/// The logger of `join`, the only program that logs.
fn logger(pins: &Pins) -> Option<EbpfLogger<&'static dyn log::Log>> {
    let id = ProgramInfo::from_pin(pins.link(names::JOIN4)).ok()?.id();
    EbpfLogger::init_from_id(id)
        .inspect_err(|error| tracing::warn!(%error, "failed to read the log of the eBPF programs"))
        .ok()
}
