//! Promise: the capabilities that the unit file names are enough for the agent.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    host::Host,
    load::Plan,
    servers::{Kind, Nginx},
    wait,
};

const LIMIT: Duration = Duration::from_secs(20);
const SERVICES: &str = "[service.web]\nlisten = [\"0.0.0.0:80\"]\nhealth = { http = \"/\" }\n\
                        [service.other]\nlisten = [\"0.0.0.0:8081\"]\n";

/// The line of the unit file, which is commented out there.
fn documented() -> Result<Vec<String>> {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hotlb.service");
    let unit = fs::read_to_string(unit)?;
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("#CapabilityBoundingSet="));
    let line = line.context("the unit file names the capabilities")?;
    Ok(line.split_whitespace().map(str::to_lowercase).collect())
}

/// A host whose agent, and all that it starts, has these capabilities only.
fn start(capabilities: &[String]) -> Result<Host> {
    let mut host = Host::without_agent()?;
    host.write_config(SERVICES)?;
    let set = capabilities
        .iter()
        .map(|name| format!("+{}", name.trim_start_matches("cap_")));
    let set: Vec<String> = std::iter::once("-all".to_owned()).chain(set).collect();
    let mut command = host.command("setpriv");
    command.args(["--bounding-set", &set.join(","), "--"]);
    command.arg(host.binary()).arg("agent");
    host.start_agent_as(&mut command)?;
    Ok(host)
}

#[test]
fn what_the_unit_file_names_is_enough() -> Result<()> {
    let host = start(&documented()?)?;
    // Its workers run as another user.
    let nginx = |name: &str| {
        Nginx::new(name)
            .listen("0.0.0.0:80")
            .command(host.directory())
    };
    host.upgrade_of("web", "gen1", &nginx("gen1")?)?;
    let load = host.load(Plan::new("127.0.0.1:80".parse()?).workers(8))?;
    load.wait_more(200, LIMIT)?;
    host.upgrade_of("web", "gen2", &nginx("gen2")?)?;
    load.wait_more(200, LIMIT)?;
    host.ok(&["rollback", "--service", "web"])?;
    load.wait_more(200, LIMIT)?;
    let profile = host.ok(&["profile", "--service", "web", "gen1", "--for", "2s"])?;
    ensure!(profile.stdout.contains("tcp_"), "{}", profile.describe());
    let plain = Kind::Plain.command(host.directory(), "gen1", 8081)?;
    host.upgrade_of("other", "gen1", &plain)?;
    ensure!(host.ask("127.0.0.1:8081".parse()?)? == "gen1");
    let status = host.ok(&["status"])?;
    // Of the kernel, not of the rights: one that cannot have clients asked to leave says so always.
    let of_rights = |line: &&str| line.contains('!') && !line.contains("are not asked to leave");
    let warning = status.stdout.lines().find(of_rights);
    ensure!(warning.is_none(), "{}", status.describe());
    let measured = wait::until_true("latency is measured", LIMIT, || {
        let web = host.status().and_then(|s| Ok(s.service("web")?.clone()));
        web.is_ok_and(|web| {
            web.generations
                .iter()
                .any(|g| g.latency.queue_wait.count > 0)
        })
    });
    measured?;
    load.stop()?.expect_none_lost()?;
    host.ok(&["down"]).map(drop)
}
