//! hotlb's way: nginx, one generation after the other.

use anyhow::Result;
use hotlb_tests::{host::Host, servers::Nginx};

use super::{ADDRESS, Site};

struct Steered(Host);

pub(super) fn start() -> Result<Box<dyn Site>> {
    let host = Host::with_service(&format!("listen = [\"{ADDRESS}\"]"))?;
    let mut site = Steered(host);
    site.upgrade(0)?;
    Ok(Box::new(site))
}

impl Site for Steered {
    fn upgrade(&mut self, number: usize) -> Result<()> {
        let name = format!("gen{number}");
        let nginx = Nginx::new(&name).listen(&format!("{ADDRESS} reuseport"));
        self.0.upgrade(&name, &nginx.command(self.0.directory())?)
    }

    fn host(&self) -> &Host {
        &self.0
    }
}
