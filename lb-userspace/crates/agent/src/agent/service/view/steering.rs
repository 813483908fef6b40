//! How clients are led, asked to leave, and counted, as `status` and the metrics show it.

use std::collections::BTreeMap;

use lb_common::Exit;

use super::super::context::Context;
use crate::{
    api::wire::{PoliteStatus, PoliteWay, SteeringStatus},
    config::PoliteMode,
    datapath::Way,
};

/// How `steer` decided.
pub(super) fn steering(context: &Context) -> SteeringStatus {
    let counts = context.path.steering_counts();
    let exits = |migrating| -> BTreeMap<String, u64> {
        Exit::ALL
            .iter()
            .map(|&exit| (exit.name().to_owned(), counts.exits(exit, migrating)))
            .collect()
    };
    SteeringStatus {
        calls: counts.calls(),
        exits: exits(false),
        migrated: exits(true),
    }
}

/// Why nobody is asked to leave, though the operator wants it.
pub(super) fn impolite(context: &Context) -> Option<String> {
    if context.config.drain.polite == PoliteMode::Off {
        return None;
    }
    match context.path.polite() {
        Ok(polite) => polite.refusal(),
        Err(impolite) => Some(impolite.reason().to_owned()),
    }
}

/// How clients are asked to leave.
pub(super) fn polite(context: &Context) -> PoliteStatus {
    let why_not = impolite(context);
    let Ok(polite) = context.path.polite() else {
        return PoliteStatus {
            why_not,
            ..PoliteStatus::default()
        };
    };
    let asks = context.config.drain.polite != PoliteMode::Off && why_not.is_none();
    PoliteStatus {
        way: asks.then(|| match polite.way() {
            Way::Messages => PoliteWay::Messages,
            Way::Packets => PoliteWay::Packets,
        }),
        why_not,
        leaving: polite.leaving(|| context.all_connections()),
        responses: polite
            .counts()
            .by_name()
            .iter()
            .map(|(name, &count)| ((*name).to_owned(), count))
            .collect(),
    }
}
