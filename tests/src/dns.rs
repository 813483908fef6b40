//! A service of one UDP port, and what a test of it asks for again and again.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use crate::{host::Host, servers::Udp, status::Datagrams};

/// Its port.
pub const PORT: u16 = 5353;

/// A host with the service; `keys` are further lines of its section.
pub fn host(keys: &str) -> Result<Host> {
    Host::with_service(&format!("listen = [\"udp://0.0.0.0:{PORT}\"]\n{keys}"))
}

/// Where its clients ask.
pub fn target() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], PORT))
}

/// Deploys a generation.
pub fn deploy(host: &Host, generation: &str) -> Result<()> {
    host.deploy(generation, &Udp::new(generation, PORT).command()?)?;
    Ok(())
}

/// Deploys and promotes one, and does not wait for the drain of the former.
pub fn upgrade(host: &Host, generation: &str) -> Result<()> {
    deploy(host, generation)?;
    host.ok(&["promote", "--no-wait", generation])?;
    Ok(())
}

/// What its status says of its UDP side.
pub fn status(host: &Host) -> Result<Datagrams> {
    host.web()?.udp.context("the service has a UDP side")
}
