//! What the agent tells a scrape.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Agent, OwnProcess, Service, observed::Observed};
use crate::generation::output;

/// What a scrape finds.
#[derive(Debug)]
pub enum Scrape {
    /// The values, of this moment.
    Own(Observed),
    /// The services are a successor's: it is to be asked, at the control socket.
    Successors,
}

impl Agent {
    /// The same agent, whose generations are shown for `expire` after they have ended.
    #[must_use]
    pub fn expiring(self, expire: Duration) -> Self {
        Self { expire, ..self }
    }

    /// Everything there is to measure. While the services are handed over this waits for the
    /// outcome.
    pub async fn scrape(&self) -> Scrape {
        // Held to the end: a hand-over waits for whoever looks.
        let services = self.services.read().await;
        if services.is_a_successors() {
            return Scrape::Successors;
        }
        Scrape::Own(self.observe(services.all()).await)
    }

    async fn observe(&self, all: BTreeMap<String, Arc<Service>>) -> Observed {
        let mut services = Vec::with_capacity(all.len());
        for service in all.values() {
            services.push(service.observe(self.expire).await);
        }
        let dropped = output::dropped(&self.places().outputs().dropped());
        let of = |service: &String| dropped.get(service).map_or(0, |dropped| dropped.bytes);
        Observed {
            dropped: all
                .keys()
                .map(|service| (service.clone(), of(service)))
                .collect(),
            journal_writable: self.journal().trouble().is_none(),
            process: OwnProcess::read().ok(),
            services,
        }
    }
}
