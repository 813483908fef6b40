//! Flows as `status`, the metrics and `hotlb flows` show them.

use std::{collections::BTreeMap, sync::Arc};

use lb_common::FlowExit;

use super::{Service, VerbError};
use crate::{
    api::wire::{DatagramStatus, FlowList, FlowStatus, VERSION},
    clock,
    config::Datagrams,
    datapath::{DatapathError, FlowEntry, Flows},
};

impl Service {
    /// The UDP side; `None` for a service without.
    pub(super) fn datagram_status(&self) -> Option<DatagramStatus> {
        let (Some(config), Some(flows)) = (&self.config.datagrams, self.path.flows()) else {
            return None;
        };
        Some(datagram_status(config, flows))
    }

    /// What is not as it should be with flows.
    pub(super) fn flow_warnings(&self, warnings: &mut Vec<String>) {
        let (Some(config), Some(flows)) = (&self.config.datagrams, self.path.flows()) else {
            return;
        };
        if flows.evicts() {
            warnings.push(format!(
                "the flow table is too small: {} flows were evicted so far and may have changed \
                 their generation; set flow_table above {}, or flow = \"none\" if any generation \
                 may answer any datagram, as with DNS",
                flows.evicted(),
                config.table
            ));
        }
        let unwritten = flows.counts().unwritten();
        if unwritten > 0 {
            warnings.push(format!(
                "{unwritten} flows could not be recorded and may change their generation"
            ));
        }
        if let Some(error) = flows.error() {
            warnings.push(format!(
                "flows cannot be read, so drains wait until their deadlines: {error}"
            ));
        }
    }

    /// Looks at the flow table: what gave way is known only to who counts. Idle flows are removed.
    pub(super) async fn tend_flows(self: &Arc<Self>) {
        if self.path.flows().is_none() {
            return;
        }
        let service = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            if let Some(flows) = service.path.flows() {
                flows.look();
            }
        });
        if let Err(error) = looked.await {
            tracing::error!(service = self.name(), %error, "failed to read the flow table");
        }
    }

    /// The `limit` flows with the latest datagrams.
    pub(in crate::agent) async fn list_flows(
        self: &Arc<Self>,
        limit: usize,
    ) -> Result<FlowList, VerbError> {
        let service = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || service.read_flows());
        let read = read.await.map_err(|error| VerbError::System {
            doing: "read the flow table",
            source: std::io::Error::other(error),
        })?;
        let mut flows = read?;
        flows.sort_by_key(|flow| (flow.idle, flow.age));
        let total = flows.len() as u64;
        let books = self.books.lock().await;
        Ok(FlowList {
            api: VERSION,
            service: self.name().to_owned(),
            total,
            flows: flows
                .iter()
                .take(limit)
                .map(|flow| FlowStatus {
                    client: flow.key.client(),
                    server: flow.key.server(),
                    generation: flow
                        .generation
                        .map_or_else(|| "?".to_owned(), |id| books.name_of(id)),
                    age_ms: clock::millis(flow.age),
                    idle_ms: clock::millis(flow.idle),
                })
                .collect(),
        })
    }

    fn read_flows(&self) -> Result<Vec<FlowEntry>, VerbError> {
        let Some(flows) = self.path.flows() else {
            return Err(VerbError::NoDatagrams(self.name().to_owned()));
        };
        flows.list().map_err(|error: DatapathError| error.into())
    }
}

fn datagram_status(config: &Datagrams, flows: &Flows) -> DatagramStatus {
    let counts = flows.counts();
    let by_generation = flows.by_generation().unwrap_or_default();
    let exits: BTreeMap<String, u64> = FlowExit::ALL
        .iter()
        .map(|&exit| (exit.name().to_owned(), counts.exits(exit)))
        .collect();
    DatagramStatus {
        listen: config.listen.clone(),
        flow: config.flow,
        idle_ms: clock::millis(config.idle),
        table: config.table,
        flows: by_generation.values().sum(),
        calls: counts.calls(),
        exits,
        begun: counts.begun(),
        moved: counts.moved(),
        readdressed: counts.readdressed(),
        evicted: flows.evicted(),
        unwritten: counts.unwritten(),
    }
}
