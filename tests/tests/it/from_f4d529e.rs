//! Promise: an agent takes over the services of hotlb f4d529e (layout 5) under load, and its own programs are in force
//! afterwards. Every later change of a layout adds its step here.
//!
//! The other agent is built from the history. `HOTLB_FULL` upgrades ten times.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    command::Running,
    datagrams::{Client, Reply},
    former, history,
    host::Host,
    load::{Load, Plan},
    process::Process,
    report,
    servers::{Kind, Plain, Udp},
    status::{Service, Status},
    units::{self, Units},
    wait,
    waiting::Waiting,
};

const LIMIT: Duration = Duration::from_secs(20);
/// Both releases know it.
const DRILL: &str = "HOTLB_DRILL_TAKEOVER";

/// A part of the scene for each of what an upgrade finds.
const CONFIG: &str = "\
[service.web]
listen = [\"0.0.0.0:8080\"]
keep = { generations = 3 }
drain = { signal_after = \"45s\", deadline = \"45s\" }
[service.bake]
listen = [\"0.0.0.0:8081\"]
[service.before]
listen = [\"0.0.0.0:8082\"]
adopt = true
[service.unit]
listen = [\"0.0.0.0:8083\"]
[service.empty]
listen = [\"0.0.0.0:8084\", \"[::1]:8084\"]
[service.dns]
listen = [\"udp://0.0.0.0:5353\"]
flow = \"tuple\"
drain = { deadline = \"45s\" }
";

/// What became of a request under way.
#[derive(Clone, Copy)]
enum End {
    /// It was answered before an upgrade of the agent, for the rollout goes on.
    Answered,
    /// The agent was killed with it.
    Killed,
}

/// Services of the former release, each in another state, and their clients.
struct Scene {
    host: Host,
    former: PathBuf,
    loads: Vec<(&'static str, Load)>,
    parked: Waiting,
    held: Waiting,
    flows: Vec<Client>,
    waits: Running,
    _adopted: Process,
    _executed: Process,
    _units: Units,
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Five loads at once leave the CPUs time for six services: there are kernels that starve sessions for seconds beside one
/// that takes all it can get.
fn plan(port: u16) -> Plan {
    Plan::new(at(port)).each(Duration::from_millis(2))
}

fn plain(name: &str, port: u16) -> Result<Vec<String>> {
    Plain::new(name)
        .listen(&format!("0.0.0.0:{port}"))
        .command()
}

fn deploy(host: &Host, service: &str, name: &str, server: &[String]) -> Result<()> {
    let mut words = vec!["deploy", "--service", service, "--generation", name, "--"];
    words.extend(server.iter().map(String::as_str));
    host.ok(&words).map(drop)
}

fn promote(host: &Host, service: &str, name: &str) -> Result<()> {
    let words = ["promote", "--service", service, name];
    host.ok(&words).map(drop)
}

fn state(host: &Host, service: &str, name: &str, wanted: &str) -> Result<()> {
    wait::until_true(&format!("{name} of {service} is {wanted}"), LIMIT, || {
        let status = host.status();
        status.is_ok_and(|status| {
            let service = status.service(service);
            service.is_ok_and(|s| s.generation(name).is_ok_and(|g| g.state == wanted))
        })
    })
}

fn start(host: &mut Host, program: &Path, variables: &[(&str, &str)]) -> Result<()> {
    let mut command = host.command(program);
    command.arg("agent").envs(variables.iter().copied());
    host.start_agent_as(&mut command)
}

impl Scene {
    /// With the former release in charge. A drill is the environment's of its agent.
    fn new(variables: &[(&str, &str)]) -> Result<Self> {
        let former = former::hotlb()?;
        let mut host = Host::without_agent()?;
        host.write_config(CONFIG)?;
        let all = Units::new(&host)?;
        let shares = Kind::NginxReuseport.command(host.directory(), "before", 8082)?;
        // That release knows a unit by its name alone, wherever it is.
        let unit = format!("{}.service", host.netns().name());
        let before = all.start(&host, &unit, &shares)?;
        wait::until_true("the server answers", LIMIT, || host.ask(at(8082)).is_ok())?;
        start(&mut host, &former, variables)?;
        host.ok(&[
            "adopt",
            "--service",
            "before",
            "--generation",
            "gen1",
            "--unit",
            &unit,
        ])?;
        // One that stands by, one that drains, one that is active.
        deploy(&host, "web", "gen1", &plain("gen1", 8080)?)?;
        promote(&host, "web", "gen1")?;
        deploy(&host, "web", "gen2", &plain("gen2", 8080)?)?;
        promote(&host, "web", "gen2")?;
        state(&host, "web", "gen1", "standby")?;
        let kept = host.load(plan(8080).workers(4).keep_alive())?;
        kept.wait_more(20, LIMIT)?;
        let held = Waiting::silent(host.netns(), at(8080), 3)?;
        deploy(&host, "web", "gen3", &plain("gen3", 8080)?)?;
        promoted(&host, "web", "gen3")?;
        state(&host, "web", "gen2", "draining")?;
        let flows = Client::several(host.netns(), at(5353), 5)?;
        deploy(&host, "dns", "gen1", &Udp::new("gen1", 5353).command()?)?;
        promote(&host, "dns", "gen1")?;
        flows.iter().try_for_each(|flow| flow.expect("gen1"))?;
        deploy(&host, "dns", "gen2", &Udp::new("gen2", 5353).command()?)?;
        promoted(&host, "dns", "gen2")?;
        let line = [
            former.display().to_string(),
            "exec".to_owned(),
            "--service".to_owned(),
            "unit".to_owned(),
            "--generation".to_owned(),
            "gen1".to_owned(),
            "--".to_owned(),
        ];
        let line: Vec<String> = line.into_iter().chain(plain("gen1", 8083)?).collect();
        let executed = units::supervise(&host, &line)?;
        state(&host, "unit", "gen1", "ready")?;
        promote(&host, "unit", "gen1")?;
        deploy(&host, "bake", "gen1", &plain("gen1", 8081)?)?;
        promote(&host, "bake", "gen1")?;
        let mut upgrade = ["upgrade", "--service", "bake", "--generation", "gen2"].to_vec();
        let server = plain("gen2", 8081)?;
        upgrade.extend(["--bake", "8s", "--"]);
        upgrade.extend(server.iter().map(String::as_str));
        let waits = host.start_hotlb(&upgrade)?;
        wait::until_true("gen2 of bake is active", LIMIT, || {
            let status = host.status();
            status.is_ok_and(|s| {
                s.service("bake")
                    .is_ok_and(|s| s.active.as_deref() == Some("gen2"))
            })
        })?;
        let parked = Waiting::open(host.netns(), at(8084), 4)?;
        let mut loads = vec![("web, kept", kept)];
        for (what, port) in [
            ("web", 8080),
            ("bake", 8081),
            ("before", 8082),
            ("unit", 8083),
        ] {
            loads.push((what, host.load(plan(port).workers(2))?));
        }
        for (_, load) in &loads {
            load.wait_more(20, LIMIT)?;
        }
        Ok(Self {
            host,
            former,
            loads,
            parked,
            held,
            flows,
            waits,
            _adopted: before,
            _executed: executed,
            _units: all,
        })
    }

    fn more(&self) -> Result<()> {
        self.loads.iter().try_for_each(|(what, load)| {
            load.wait_more(50, LIMIT)
                .with_context(|| format!("{what}\n{}", self.host.agent_log()))
        })
    }

    /// Waits until the present programs decide everywhere.
    fn present(&self) -> Result<Status> {
        let mut last = None;
        let present = wait::until("the present programs decide", LIMIT, || {
            let status = self.host.status().ok()?;
            let own = |s: &Service| s.programs.as_ref().is_some_and(|p| p.own && p.layout == 6);
            let all = status.services.iter().all(own);
            last = Some(status.clone());
            all.then_some(status)
        });
        present.with_context(|| format!("{last:#?}\n{}", self.host.agent_log()))
    }

    /// Everything is as it was, and goes on; to the end.
    fn finish(self, before: &Status, end: End) -> Result<()> {
        let after = self.present()?;
        never_fell(before, &after)?;
        for (service, generation, state) in [
            ("web", "gen1", "standby"),
            ("web", "gen2", "draining"),
            ("web", "gen3", "active"),
            ("before", "gen1", "active"),
            ("unit", "gen1", "active"),
            ("dns", "gen2", "active"),
        ] {
            let found = after.service(service)?.generation(generation)?;
            ensure!(found.state == state, "{service}: {found:#?}");
        }
        for service in &after.services {
            let waits = "no generation is active";
            let mut unusual = service.unusual();
            unusual.retain(|warning| !warning.contains(waits));
            ensure!(unusual.is_empty(), "{}: {unusual:?}", service.name);
        }
        self.more()?;
        for flow in &self.flows {
            flow.expect("gen1")?;
        }
        let fresh = Client::new(self.host.netns(), at(5353))?;
        ensure!(fresh.send("?")? == Reply::By("gen2".to_owned()));
        ensure!(self.after_all()?.service("dns")?.udp.is_some());
        // The word moves the clients of each of them.
        // Its clients keep their connections: nobody waits until they have left.
        self.host
            .ok(&["rollback", "--no-wait", "--service", "web"])?;
        let answered = |load: &Load, name: &str| {
            let goal = load.so_far().by(name) + 50;
            load.wait_for("answers of the former", LIMIT, |o| o.by(name) > goal)
        };
        let (_, web) = self.loads.get(1).context("no load of web")?;
        answered(web, "gen2")?;
        deploy(&self.host, "web", "gen4", &plain("gen4", 8080)?)?;
        promoted(&self.host, "web", "gen4")?;
        answered(web, "gen4")?;
        let opened = self
            .after_all()?
            .service("web")?
            .generation("gen4")?
            .connections
            .opened;
        ensure!(opened > 0, "gen4 is not counted");
        deploy(&self.host, "empty", "gen1", &both("gen1")?)?;
        promote(&self.host, "empty", "gen1")?;
        let answers = self.parked.answers()?;
        ensure!(
            answers.iter().all(|a| a.generation == "gen1"),
            "{answers:?}"
        );
        match end {
            End::Answered => self.waits.finish(LIMIT)?.expect_success()?,
            // Who asked is told that nobody answers any more; the rollout goes on.
            End::Killed => self
                .waits
                .finish(LIMIT)?
                .expect_code(1)?
                .expect_stderr(&["broke off"])?,
        };
        wait::until_true("the bake is over", LIMIT, || {
            let all = history::list(&self.host).unwrap_or_default();
            all.iter().any(|rollout| {
                let said = |place, what| history::text(rollout, place) == Some(what);
                said("/service", "bake") && said("/kind", "upgrade") && said("/outcome", "done")
            })
        })?;
        ensure!(!self.held.all_ended(), "connections of a drain were cut");
        for (what, load) in self.loads {
            let outcome = load.stop()?;
            report::figure(
                &format!("from f4d529e: {what}: requests"),
                outcome.requests(),
            );
            report::figure(&format!("from f4d529e: {what}: failed"), outcome.failed);
            report::figure(
                &format!("from f4d529e: {what}: slowest, ms"),
                outcome.max.as_millis(),
            );
            outcome.expect_none_lost().with_context(|| what)?;
        }
        Ok(())
    }

    fn after_all(&self) -> Result<Status> {
        self.host.status()
    }
}

/// A server of both families.
fn both(name: &str) -> Result<Vec<String>> {
    let server = Plain::new(name).listen("0.0.0.0:8084");
    server.listen("[::1]:8084").command()
}

/// Promotes, and does not wait for the drain.
fn promoted(host: &Host, service: &str, name: &str) -> Result<()> {
    host.ok(&["promote", "--no-wait", "--service", service, name])
        .map(drop)
}

/// What counts, by service and generation.
fn counts(status: &Status) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for service in &status.services {
        counts.insert(format!("{} calls", service.name), service.steering.calls);
        for generation in &service.generations {
            let name = format!("{} {}", service.name, generation.name);
            let connections = &generation.connections;
            counts.insert(format!("{name} opened"), connections.opened);
            counts.insert(format!("{name} closed"), connections.closed);
        }
    }
    counts
}

fn never_fell(before: &Status, after: &Status) -> Result<()> {
    let after = counts(after);
    for (name, count) in counts(before) {
        let now = after
            .get(&name)
            .with_context(|| format!("{name} is gone"))?;
        ensure!(*now >= count, "{name} fell from {count} to {now}");
    }
    Ok(())
}

fn times() -> usize {
    if std::env::var_os("HOTLB_FULL").is_some() {
        10
    } else {
        1
    }
}

#[test]
fn an_agent_that_died_is_succeeded() -> Result<()> {
    let mut scene = Scene::new(&[])?;
    let before = scene.host.status()?;
    scene.host.kill_agents()?;
    scene.more()?;
    scene.host.start_agent()?;
    scene.finish(&before, End::Killed)
}

#[test]
fn upgraded_under_load() -> Result<()> {
    for _ in 0..times() {
        let scene = Scene::new(&[])?;
        let before = scene.host.status()?;
        let to = scene.host.binary().display().to_string();
        let upgraded = scene.host.ok(&["agent", "upgrade", &to])?;
        ensure!(
            upgraded.stdout.contains("took over from"),
            "{}",
            upgraded.describe()
        );
        scene.present()?;
        // There is no way back to it: it says so, and changes nothing.
        let former = scene.former.display().to_string();
        scene
            .host
            .hotlb(&["agent", "upgrade", &former])?
            .expect_code(78)?
            .expect_stderr(&["layout version 6", "has version 5", "nothing was changed"])?;
        scene.more()?;
        scene.finish(&before, End::Answered)?;
    }
    Ok(())
}

/// Whoever dies on the way: what is left goes on, and the next agent has it.
#[test]
fn a_successor_that_dies_changes_nothing() -> Result<()> {
    let mut scene = Scene::new(&[(DRILL, "successor@opened")])?;
    let before = scene.host.status()?;
    let to = scene.host.binary().display().to_string();
    scene
        .host
        .hotlb(&["agent", "upgrade", &to])?
        .expect_code(1)?
        .expect_stderr(&["stays in charge"])?;
    // The former has taken up again, with pins that nobody changed.
    scene.more()?;
    let former = scene.host.status()?;
    ensure!(
        former.services.iter().all(|s| s.programs.is_none()),
        "it is not the former"
    );
    for service in &former.services {
        let usual = |w: &&String| !w.contains("no generation is active");
        ensure!(
            !service.warnings.iter().any(|w| usual(&w)),
            "{:?}",
            service.warnings
        );
    }
    never_fell(&before, &former)?;
    // The next one dies when everything is its own, before and after it has replaced the programs.
    for step in ["successor@alone", "successor@renewed"] {
        scene.host.kill_agents()?;
        let program = scene.former.clone();
        start(&mut scene.host, &program, &[(DRILL, step)])?;
        scene.host.hotlb(&["agent", "upgrade", &to])?;
        scene.host.no_agent()?;
        scene.more()?;
    }
    scene.host.start_agent()?;
    scene.finish(&before, End::Answered)
}

/// It is asked about what it does not know, and refuses: the traffic does not notice.
#[test]
fn the_former_refuses_what_was_brought_to_the_present() -> Result<()> {
    let former = former::hotlb()?;
    let mut host = Host::without_agent()?;
    host.write_config("[service.web]\nlisten = [\"0.0.0.0:8080\"]\n")?;
    start(&mut host, &former, &[])?;
    deploy(&host, "web", "gen1", &plain("gen1", 8080)?)?;
    promote(&host, "web", "gen1")?;
    let load = host.load(plan(8080).workers(4))?;
    host.kill_agents()?;
    host.start_agent()?;
    host.kill_agents()?;
    let refused = start(&mut host, &former, &[]);
    ensure!(refused.is_err(), "it took the service up");
    let log = host.agent_log();
    ensure!(
        log.contains("layout version 6, this hotlb has version 5"),
        "{log}"
    );
    load.wait_more(200, LIMIT)?;
    host.start_agent()?;
    ensure!(host.web()?.programs.is_some_and(|programs| programs.own));
    load.stop()?.expect_none_lost()
}
