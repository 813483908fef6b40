//! Flows as `status`, the metrics and `hotlb flows` show them.

use std::{collections::BTreeMap, sync::Arc};

use lb_common::{FlowExit, GenerationId};

use super::{Context, VerbError, beside::beside};
use crate::{
    api::wire::{DatagramStatus, FlowList, FlowStatus, VERSION},
    clock,
    datapath::FlowEntry,
};

/// Looks at the flow table: what gave way is known only to who counts. Idle flows are removed.
pub(super) async fn tend(context: &Arc<Context>) {
    if context.path.flows().is_none() {
        return;
    }
    let of = Arc::clone(context);
    // Not in turn with the others: a large table takes its time.
    beside(move || {
        if let Some(flows) = of.path.flows() {
            flows.look();
        }
    })
    .await;
}

/// All flows, those with the latest datagrams first.
pub(super) async fn read(context: &Arc<Context>) -> Result<Vec<FlowEntry>, VerbError> {
    let of = Arc::clone(context);
    let read = tokio::task::spawn_blocking(move || match of.path.flows() {
        Some(flows) => Ok(flows.list()?),
        None => Err(VerbError::NoDatagrams(of.name().to_owned())),
    });
    let read = read.await.map_err(|error| VerbError::System {
        doing: "read the flow table",
        source: std::io::Error::other(error),
    })?;
    let mut flows = read?;
    flows.sort_by_key(|flow| (flow.idle, flow.age));
    Ok(flows)
}

/// The first `limit` of them, as `hotlb flows` shows them.
pub(super) fn list(
    context: &Context,
    flows: &[FlowEntry],
    limit: usize,
    name_of: impl Fn(GenerationId) -> String,
) -> FlowList {
    FlowList {
        api: VERSION,
        service: context.name().to_owned(),
        total: flows.len() as u64,
        flows: flows
            .iter()
            .take(limit)
            .map(|flow| FlowStatus {
                client: flow.key.client(),
                server: flow.key.server(),
                generation: flow.generation.map_or_else(|| "?".to_owned(), &name_of),
                age_ms: clock::millis(flow.age),
                idle_ms: clock::millis(flow.idle),
            })
            .collect(),
    }
}

/// What is not as it should be with flows.
pub(super) fn warnings(context: &Context) -> Vec<String> {
    let mut warnings = Vec::new();
    let (Some(config), Some(flows)) = (&context.config.datagrams, context.path.flows()) else {
        return warnings;
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
    warnings
}

/// The UDP side; `None` for a service without.
pub(super) fn datagram_status(context: &Context) -> Option<DatagramStatus> {
    let (config, flows) = (context.config.datagrams.as_ref()?, context.path.flows()?);
    let counts = flows.counts();
    let by_generation = flows.by_generation().unwrap_or_default();
    let exits: BTreeMap<String, u64> = FlowExit::ALL
        .iter()
        .map(|&exit| (exit.name().to_owned(), counts.exits(exit)))
        .collect();
    Some(DatagramStatus {
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
    })
}
