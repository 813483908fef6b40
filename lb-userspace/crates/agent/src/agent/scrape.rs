//! What the agent tells a scrape.

use std::time::Duration;

use super::{Agent, OwnProcess, observed::Observed, view::View};
use crate::generation::output;

impl Agent {
    /// The same agent, whose generations are shown for `expire` after they have ended.
    #[must_use]
    pub fn expiring(self, expire: Duration) -> Self {
        Self { expire, ..self }
    }
}

impl View {
    /// Everything there is to measure, of this moment.
    pub async fn observe(&self) -> Observed {
        let all = self.services.all();
        let mut services = Vec::with_capacity(all.len());
        for service in all.values() {
            services.push(service.observe(self.agent.expire).await);
        }
        let dropped = output::dropped(&self.agent.places().outputs().dropped());
        let of = |service: &String| dropped.get(service).map_or(0, |dropped| dropped.bytes);
        Observed {
            dropped: all
                .keys()
                .map(|service| (service.clone(), of(service)))
                .collect(),
            journal_writable: self.agent.journal().trouble().is_none(),
            process: OwnProcess::read().ok(),
            services,
        }
    }
}
