//! What can be known of a service before it is taken over from a running agent, without touching
//! anything.

use super::{
    OpenError,
    network::{is_of_other_network, network},
    open::{declared, is_of_other_user},
};
use crate::{
    config::{Places, ServiceConfig},
    datapath::{Pins, ServicePath},
    sys::{cgroup::Cgroup, mounts},
};

/// Whether what there is of the service fits this program and `config`.
///
/// # Errors
///
/// [`crate::datapath::DatapathError::Layout`] with the versions; [`OpenError::GroupsDiffer`] when the groups
/// would have to be made anew.
pub async fn preflight(config: &ServiceConfig, places: &Places) -> Result<(), OpenError> {
    let pins = Pins::new(&places.bpffs, &config.name);
    if !pins.exist() {
        return Ok(());
    }
    ServicePath::refuse_unknown_layout(&pins)?;
    let netns = network(config, places, &cgroup(config, places)).await?;
    if declared(config).differs_from(&pins)
        || is_of_other_user(places, config).await
        || is_of_other_network(places, &config.name, &netns).await
    {
        return Err(OpenError::GroupsDiffer);
    }
    Ok(())
}

/// Where the service's processes are. Without cgroup2 nowhere, which the agent says when it begins.
fn cgroup(config: &ServiceConfig, places: &Places) -> Cgroup {
    let root = mounts::cgroup2().unwrap_or_default();
    Cgroup::at(root.join(&places.cgroup).join(&config.name))
}
