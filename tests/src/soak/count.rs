//! The service's totals, which never go down.

use anyhow::{Result, ensure};

use crate::{
    exposition::{Exposition, OPENMETRICS},
    host::Host,
};

/// The totals of one scrape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) opened: f64,
    pub(super) closed: f64,
    pub(super) aborted: f64,
    /// Connections of the agent itself, which a ticket led.
    pub(super) probes: f64,
}

impl Count {
    pub(super) fn of(host: &Host) -> Result<Self> {
        let scrape = Exposition::of(host, OPENMETRICS)?;
        let total = |what: &str| {
            let name = format!("hotlb_service_connections_{what}_total");
            scrape.value(&name, &[])
        };
        let probes = ["exit=\"ticket\"", "migrating=\"false\""];
        Ok(Self {
            opened: total("opened")?,
            closed: total("closed")?,
            aborted: total("aborted")?,
            probes: scrape.sum("hotlb_steering_exits_total", &probes)?,
        })
    }

    /// Fails if anything is less than `former`.
    pub(super) fn expect_grown_from(&self, former: &Self) -> Result<()> {
        let pairs = [
            (self.opened, former.opened),
            (self.closed, former.closed),
            (self.aborted, former.aborted),
            (self.probes, former.probes),
        ];
        ensure!(
            pairs.iter().all(|(now, then)| now >= then),
            "a total fell: {former:?}, then {self:?}"
        );
        Ok(())
    }
}
