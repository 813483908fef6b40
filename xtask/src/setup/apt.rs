//! Debian's packages.

use std::process::Command;

use anyhow::{Result, bail};

use super::autostart::Autostart;
use crate::{command, search_path};

/// Another installation may be running; seconds to wait for it.
const LOCK_PATIENCE: &str = "DPkg::Lock::Timeout=120";

/// `apt-get`, its lists brought up to date at most once.
#[derive(Debug, Default)]
pub(super) struct Apt {
    updated: bool,
}

impl Apt {
    /// Installs `packages`. No service that comes with them is left running.
    pub(super) fn install(&mut self, packages: &[&str]) -> Result<()> {
        if search_path::find("apt-get").is_none() {
            bail!("no apt-get on this machine");
        }
        if !rustix::process::geteuid().is_root() {
            bail!(
                "apt-get needs root: `apt-get install {}`",
                packages.join(" ")
            );
        }
        self.update();
        let autostart = Autostart::prevent()?;
        let mut apt_get = apt_get();
        apt_get.args(["install", "--yes", "--no-install-recommends"]);
        let installed = command::run(apt_get.args(packages));
        autostart.end()?;
        if installed.is_err() {
            bail!("`apt-get install {}` failed", packages.join(" "));
        }
        Ok(())
    }

    /// A source that does not answer does not matter if the others have the packages.
    fn update(&mut self) {
        if !self.updated {
            if let Err(error) = command::run(apt_get().arg("update")) {
                println!("setup: {error:#}; going on with the lists that are there");
            }
            self.updated = true;
        }
    }
}

fn apt_get() -> Command {
    let mut apt_get = Command::new("apt-get");
    apt_get.args(["--quiet", "--quiet", "-o", LOCK_PATIENCE]);
    apt_get
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("PATH", search_path::joined());
    apt_get
}
