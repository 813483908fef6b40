//! The network namespace a service is in.

use super::OpenError;
use crate::{
    config::{Places, ServiceConfig},
    datapath::PARKING,
    generation::keeper::Keeper,
    sys::{cgroup::Cgroup, netns::Netns},
};

/// The namespace that `config` names; the agent's own if it names none.
///
/// A namespace may lose its name (`ip netns del`) while servers run in it. Then the service goes
/// on there, for its keeper is in it too.
///
/// # Errors
///
/// [`OpenError::Netns`] when it cannot be entered and nobody of the service is in it.
pub(super) async fn network(
    config: &ServiceConfig,
    places: &Places,
    cgroup: &Cgroup,
) -> Result<Netns, OpenError> {
    let Some(path) = &config.netns else {
        return Ok(Netns::own());
    };
    let source = match Netns::open(path) {
        Ok(netns) => return Ok(netns),
        Err(source) => source,
    };
    let keeper = Keeper::find(&places.keeper(&config.name)).await.ok();
    let kept = keeper.filter(|_| generations_run(cgroup));
    match kept.and_then(|keeper| keeper.netns().ok()) {
        Some(netns) => {
            tracing::warn!(
                service = config.name,
                netns = %path.display(),
                error = %source,
                "failed to enter the network namespace by name; the generations' namespace is used"
            );
            Ok(netns)
        }
        None => Err(OpenError::Netns {
            path: path.clone(),
            source,
        }),
    }
}

/// Whether the parking listeners are in another namespace than `netns`.
pub(super) async fn is_of_other_network(places: &Places, service: &str, netns: &Netns) -> bool {
    let Ok(keeper) = Keeper::find(&places.keeper(service)).await else {
        return false;
    };
    let there = keeper.netns().and_then(|there| there.inode());
    matches!((there, netns.inode()), (Ok(there), Ok(wanted)) if there != wanted)
}

/// Whether the service's cgroup has processes other than its keeper.
pub(super) fn generations_run(cgroup: &Cgroup) -> bool {
    cgroup.pids().len() > cgroup.child(PARKING).pids().len()
}
