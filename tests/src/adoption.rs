//! A server that ran before hotlb, in a unit of its own and under load, and an agent that waits to adopt it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    host::Host,
    load::{Load, Plan},
    process::Process,
    report,
    servers::{CommandLine, Kind},
    units::Units,
    wait,
};

/// Where its clients are.
pub const TARGET: &str = "127.0.0.1:8080";
/// The unit it is.
pub const UNIT: &str = "nginx.service";
/// A configuration that adopts it.
pub const CONFIG: &str = "[service.web]\nlisten = [\"0.0.0.0:8080\"]\nadopt = true\n\
                          drain = { signal_after = \"1s\", deadline = \"5s\" }\n";
const LIMIT: Duration = Duration::from_secs(15);

/// [`TARGET`].
pub fn target() -> Result<SocketAddr> {
    Ok(TARGET.parse()?)
}

/// nginx with two workers that share the port, and another one with whoever shares it too.
pub fn sharing(host: &Host, name: &str) -> Result<CommandLine> {
    Kind::NginxReuseport.command(host.directory(), name, 8080)
}

/// A server in a unit of its own, under load, and an agent that waits to adopt it.
#[derive(Debug)]
pub struct Scene {
    /// The namespace and the agent.
    pub host: Host,
    /// The units there are.
    pub units: Units,
    /// The server.
    pub server: Process,
    /// Its clients, each with a new connection for each request.
    pub load: Load,
}

impl Scene {
    /// `server` in its unit, then the load, then an agent with `config`.
    pub fn with(server: impl Fn(&Host) -> Result<CommandLine>, config: &str) -> Result<Self> {
        let mut host = Host::without_agent()?;
        host.write_config(config)?;
        let units = Units::new(&host)?;
        let line = server(&host)?;
        let server = units.start(&host, UNIT, &line)?;
        let target = target()?;
        wait::until_true("the server answers", LIMIT, || host.ask(target).is_ok())?;
        let load = host.load(Plan::new(target))?;
        load.wait_more(500, LIMIT)?;
        host.start_agent()?;
        Ok(Self {
            host,
            units,
            server,
            load,
        })
    }

    /// nginx that shares its port.
    pub fn new() -> Result<Self> {
        Self::with(|host| sharing(host, "gen1"), CONFIG)
    }

    /// The server's pid.
    pub fn pid(&self) -> String {
        self.server.pid().to_string()
    }

    /// The command must be refused with `code`, in one line that contains `parts`, and change nothing.
    pub fn refused(&self, arguments: &[&str], code: i32, parts: &[&str]) -> Result<()> {
        self.host
            .hotlb(arguments)?
            .expect_code(code)?
            .expect_one_line_error()?
            .expect_stderr(parts)?;
        let web = self.host.web()?;
        ensure!(web.awaits_adopt && web.active.is_none(), "{web:#?}");
        self.load.wait_more(100, LIMIT)
    }

    /// Adopts it as gen1, which is active then.
    pub fn adopt(&self) -> Result<()> {
        let adopted = self
            .host
            .ok(&["adopt", "--generation", "gen1", "--unit", UNIT])?;
        report::figure("adopt: command, ms", adopted.took.as_millis());
        let web = self.host.web()?;
        ensure!(!web.awaits_adopt, "{web:#?}");
        ensure!(web.active.as_deref() == Some("gen1"), "{web:#?}");
        let gen1 = web.generation("gen1")?;
        ensure!(
            gen1.origin == "adopted" && gen1.state == "active",
            "{gen1:#?}"
        );
        ensure!(gen1.process()? == self.server.pid(), "{gen1:#?}");
        ensure!(gen1.listeners.len() == 2, "{gen1:#?}");
        ensure!(gen1.listeners.iter().all(|l| l.steered), "{gen1:#?}");
        Ok(())
    }

    /// gen2 is deployed and promoted; the adopted one ends when it is told to.
    pub fn upgrade(&mut self) -> Result<()> {
        self.host.deploy("gen2", &sharing(&self.host, "gen2")?)?;
        self.host.promote("gen2")?;
        self.load
            .wait_for("answers of gen2", LIMIT, |outcome| outcome.by("gen2") > 500)?;
        if self.host.generation("gen1")?.state != "stopped" {
            self.host.ok(&["stop", "gen1"])?;
        }
        let ended = self.server.wait(LIMIT)?;
        ensure!(ended.success(), "the adopted server ended with {ended}");
        ensure!(
            self.units.cgroup(UNIT)?.is_dir(),
            "the unit's cgroup was removed"
        );
        self.host.expect_answers(target()?, 20, "gen2")
    }

    /// Nobody was parked, left to the kernel's hash, or failed.
    pub fn finish(self) -> Result<()> {
        let web = self.host.web()?;
        web.steering.check_balance()?;
        for exit in ["parked", "unselected"] {
            ensure!(web.steering.exit(exit)? == 0, "{:?}", web.steering);
        }
        let outcome = self.load.stop()?;
        report::figure("adopt: requests", outcome.requests());
        report::figure("adopt: failed", outcome.failed);
        outcome.expect_none_lost()
    }
}
