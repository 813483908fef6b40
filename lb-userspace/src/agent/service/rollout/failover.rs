//! Fail-overs in the history: the kernel has moved the traffic, the agent made it official.

use std::sync::Arc;

use lb_common::GenerationId;

use super::super::{Service, books::Books};
use crate::{
    store::journal::{End, GenerationRef, NewRollout, Outcome, RolloutKind, Who},
    sys::process,
    telemetry::traces::Lineage,
};

impl Service {
    /// Writes a fail-over down, in the background: the traffic does not wait for the disk. What
    /// happens during a rollout is a part of that one.
    pub(in crate::agent::service) fn note_failover(
        self: &Arc<Self>,
        books: &Books,
        former: Option<GenerationId>,
        id: GenerationId,
        why: String,
    ) {
        if books.rollout.is_some() {
            return;
        }
        let reference = |id: GenerationId| GenerationRef {
            id: id.raw(),
            name: books.name_of(id),
        };
        let new = NewRollout {
            service: self.name().to_owned(),
            kind: RolloutKind::FailOver,
            from: former.map(reference),
            to: reference(id),
            who: Who {
                uid: None,
                pid: None,
                name: "agent".to_owned(),
            },
            trace: Lineage::begin(None).0,
            boot: process::boot_id(),
        };
        let service = Arc::clone(self);
        tokio::spawn(async move {
            let end = End {
                outcome: Outcome::Done,
                reason: Some(why),
            };
            let written = match service.journal.begin(new).await {
                Ok(rollout) => service.journal.finish(rollout, end).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                tracing::error!(%error, "failed to record the fail-over in the journal");
            }
        });
    }
}
