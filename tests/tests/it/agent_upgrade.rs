//! Promise: the agent upgrades itself. The successor takes everything over while the one in charge serves; whatever
//! fails on the way, exactly one of them is in charge, and no client notices.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use hotlb::{fault::FAULTS, takeover::Step};
use hotlb_tests::{
    api,
    command::{self, Run},
    host::Host,
    load::{Load, Plan},
    report,
    servers::Plain,
    wait,
    waiting::Waiting,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const TARGET: &str = "127.0.0.1:8080";
const SERVICE: &str = "[service.web]\nlisten = [\"0.0.0.0:8080\"]\n";
const LIMIT: Duration = Duration::from_secs(15);
const UPGRADES: u64 = 20;

fn target() -> Result<SocketAddr> {
    Ok(TARGET.parse()?)
}

/// `gen1` is active.
fn scene() -> Result<Host> {
    let host = Host::with_config(SERVICE)?;
    host.deploy_plain("gen1")?;
    host.promote("gen1")?;
    Ok(host)
}

fn one_agent(host: &Host) -> Result<Pid> {
    let mut last = Vec::new();
    let one = wait::until("exactly one agent runs", LIMIT, || {
        last = host.agents().ok()?;
        match last.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    });
    let one = one.with_context(|| format!("agents: {last:?}\n{}", host.agent_log()))?;
    let says = host.status()?.pid;
    ensure!(says == one.as_raw(), "{one} runs, {says} answers");
    Ok(one)
}

/// Asks for the status again and again, each time on a connection of its own.
struct Onlooker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Onlooker {
    fn start(host: &Host) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (socket, stopped) = (host.socket(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut looks = 0;
            while !stopped.load(Ordering::Relaxed) {
                let answer = api::request(&socket, "GET", "/v1/status", api::VERSION, "")?;
                ensure!(answer.code == 200, "look {looks}: {answer:?}");
                looks += 1;
            }
            Ok(looks)
        });
        Self { stop, thread }
    }

    fn looks(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let looked = self.thread.join();
        looked.map_err(|panic| anyhow!("the onlooker panicked: {panic:?}"))?
    }
}

#[test]
fn twenty_upgrades_under_load() -> Result<()> {
    let host = scene()?;
    host.deploy_plain("gen2")?;
    let load = host.load(Plan::new(target()?))?;
    load.wait_more(500, LIMIT)?;
    let onlooker = Onlooker::start(&host);
    let before = host.web()?;
    let mut agents = vec![one_agent(&host)?];
    let mut took = Vec::new();
    for _ in 0..UPGRADES {
        let upgraded = host.ok(&["agent", "upgrade"])?;
        ensure!(
            upgraded.stdout.contains("took over from"),
            "{}",
            upgraded.describe()
        );
        let agent = one_agent(&host)?;
        ensure!(!agents.contains(&agent), "no other agent: {agent}");
        agents.push(agent);
        took.push(milliseconds(&upgraded)?);
        load.wait_more(50, LIMIT)?;
    }
    let looks = onlooker.looks()?;
    let after = host.web()?;
    ensure!(after.active.as_deref() == Some("gen1"), "{after:#?}");
    ensure!(after.generation("gen2")?.state == "ready", "{after:#?}");
    ensure!(after.steering.calls > before.steering.calls, "{after:#?}");
    let opened = |web: &hotlb_tests::status::Service| -> Result<u64> {
        Ok(web.generation("gen1")?.connections.opened)
    };
    ensure!(opened(&after)? > opened(&before)?, "{after:#?}");
    ensure!(after.unusual().is_empty(), "{after:#?}");

    host.promote("gen2")?;
    load.wait_for("answers of gen2", LIMIT, |outcome| outcome.by("gen2") > 200)?;
    host.ok(&["rollback"])?;
    host.deploy_plain("gen3")?;
    host.promote("gen3")?;
    load.wait_for("answers of gen3", LIMIT, |outcome| outcome.by("gen3") > 200)?;
    let outcome = load.stop()?;
    took.sort_unstable();
    report::figure("agent upgrade: upgrades", UPGRADES);
    report::figure("agent upgrade: requests", outcome.requests());
    report::figure("agent upgrade: failed", outcome.failed);
    report::figure("agent upgrade: looks at the status", looks);
    report::figure("agent upgrade: median ms", took[took.len() / 2]);
    report::figure("agent upgrade: max ms", took[took.len() - 1]);
    outcome.expect_none_lost()?;
    host.web()?.steering.check_balance()
}

/// N of "... in N ms".
fn milliseconds(upgraded: &Run) -> Result<u64> {
    let words: Vec<&str> = upgraded.stdout.split_whitespace().collect();
    let number = words.iter().rev().nth(1).context("an empty line")?;
    Ok(number.parse()?)
}

/// Who is in charge after a kill at a step.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Former,
    Successor,
    Nobody,
    /// The kill and the end of the former meet.
    FormerOrNobody,
}

fn left(step: Step) -> Left {
    match step {
        Step::FormerStarted
        | Step::FormerCompared
        | Step::FormerHeld
        | Step::SuccessorAlone
        | Step::SuccessorRenewed => Left::Nobody,
        Step::FormerGave | Step::FormerHeard | Step::FormerLeft => Left::Successor,
        Step::SuccessorChecked
        | Step::SuccessorGreeted
        | Step::SuccessorReceived
        | Step::SuccessorOpened => Left::Former,
        Step::SuccessorReady => Left::FormerOrNobody,
    }
}

#[test]
fn killed_at_every_step() -> Result<()> {
    let mut host = scene()?;
    let load = host.load(Plan::new(target()?).workers(8))?;
    load.wait_more(100, LIMIT)?;
    for (number, step) in (2..).zip(Step::ALL) {
        killed_at(&mut host, &load, step, number)
            .with_context(|| format!("{}\n{}", step.name(), host.agent_log()))?;
    }
    let outcome = load.stop()?;
    report::figure("agent killed in its upgrade: steps", Step::ALL.len());
    report::figure("agent killed in its upgrade: requests", outcome.requests());
    report::figure("agent killed in its upgrade: failed", outcome.failed);
    outcome.expect_none_lost()
}

fn killed_at(host: &mut Host, load: &Load, step: Step, number: usize) -> Result<()> {
    host.kill_agents()?;
    host.start_agent_with(&[(FAULTS, step.name())])?;
    let former = one_agent(host)?;
    let before = host.web()?;
    let upgraded = host.hotlb(&["agent", "upgrade"])?;
    let expected = match left(step) {
        // It heard the successor's last word, and is leaving.
        Left::FormerOrNobody if upgraded.code == 0 => Left::Nobody,
        expected => expected,
    };
    let in_charge = wait::until("the hand-over is over", LIMIT, || {
        match host.agents().ok()?.as_slice() {
            [] => Some(None),
            [_] if expected == Left::Nobody => None,
            [one] if (*one == former) == (expected != Left::Successor) => Some(Some(*one)),
            _ => None,
        }
    })?;
    match (&expected, in_charge) {
        (Left::Former | Left::FormerOrNobody, Some(agent)) => ensure!(agent == former),
        (Left::Successor, Some(agent)) => ensure!(agent != former),
        (Left::Nobody | Left::FormerOrNobody, None) => {}
        other => anyhow::bail!("in charge: {other:?}\n{}", upgraded.describe()),
    }
    match (expected, in_charge) {
        (Left::Former | Left::FormerOrNobody, Some(_)) => {
            upgraded.expect_code(1)?.expect_one_line_error()?;
        }
        (Left::Successor, Some(agent)) => {
            // Killed on leaving, it may have told its client.
            if upgraded.code != 0 {
                let died = upgraded.expect_code(1)?.expect_one_line_error()?;
                died.expect_stderr(&["died", &agent.to_string(), "in charge now"])?;
            }
        }
        _ => {
            host.no_agent()?;
            host.start_agent()?;
        }
    }
    let agent = one_agent(host)?;
    let after = host.web()?;
    ensure!(after.active == before.active, "{after:#?}");
    ensure!(after.unusual().is_empty(), "agent {agent}: {after:#?}");
    let next = format!("gen{number}");
    host.deploy_plain(&next)?;
    host.promote(&next)?;
    load.wait_for("answers of the next", LIMIT, |outcome| {
        outcome.by(&next) > 50
    })
}

/// A script in the host's directory.
fn script(host: &Host, name: &str, text: &str) -> Result<PathBuf> {
    let path = host.directory().join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

const SPEAKS: &str = "printf '{\"hello\":{\"protocol\":PROTOCOL,\"version\":\"9.8.7\",\"pid\":1,\"api\":1,\"takes\":\
                      {\"maps\":[MAPS,MAPS],\"keeper\":[KEEPER,KEEPER],\"ledger\":[0,9],\"journal\":[0,9]}}}' >&0";

fn speaks(protocol: u32, maps: u32, keeper: u32) -> String {
    SPEAKS
        .replace("PROTOCOL", &protocol.to_string())
        .replace("MAPS", &maps.to_string())
        .replace("KEEPER", &keeper.to_string())
}

#[test]
fn what_cannot_take_over_is_refused() -> Result<()> {
    let host = scene()?;
    let own = lb_common::ABI_VERSION;
    let load = host.load(Plan::new(target()?).workers(4))?;
    let agent = one_agent(&host)?;
    let garbage = script(&host, "garbage", "echo 'Hello, World!' >&0; sleep 1")?;
    let maps = script(
        &host,
        "maps",
        &format!("{}; sleep 1", speaks(1, own + 1, 1)),
    )?;
    let keeper = script(&host, "keeper", &format!("{}; sleep 1", speaks(1, own, 7)))?;
    let protocol = script(
        &host,
        "protocol",
        &format!("{}; sleep 1", speaks(5, own, 1)),
    )?;
    // It gets everything, and dies of it.
    let dies = script(&host, "dies", &format!("{}; sleep 0.2", speaks(1, own, 1)))?;
    let hangs = script(&host, "hangs", "exec sleep 60")?;
    let no_program = host.directory().join("no-program");
    fs::write(&no_program, "MZ")?;
    let foreign = host.directory().join("foreign");
    fs::write(&foreign, b"\x7fELF\x02\x01\x01no machine has this")?;
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o755))?;
    let (found, theirs) = (format!("is {own} here"), format!("version {}", own + 1));
    let cases: [(PathBuf, i32, Vec<&str>); 12] = [
        (garbage, 1, vec!["Hello, World!", "is it hotlb"]),
        (maps, 78, vec!["maps", "9.8.7", &found, &theirs]),
        (keeper, 78, vec!["keepers", "is 1 here", "version 7"]),
        (protocol, 78, vec!["hand-over", "is 1 here", "version 5"]),
        (dies, 1, vec!["ended", "remains in charge"]),
        (hangs, 1, vec!["sent nothing for 10s"]),
        (no_program, 1, vec!["Permission denied"]),
        (foreign, 1, vec!["Exec format error"]),
        (host.directory().join("missing"), 1, vec!["No such file"]),
        (host.directory().to_owned(), 1, vec!["Permission denied"]),
        ("/bin/true".into(), 1, vec!["ended at once", "is it hotlb"]),
        ("/bin/sleep".into(), 1, vec!["ended at once", "is it hotlb"]),
    ];
    for (program, code, parts) in cases {
        let program = program.display().to_string();
        let before = host.web()?.epoch;
        host.hotlb(&["agent", "upgrade", &program])?
            .expect_code(code)?
            .expect_one_line_error()?
            .expect_stderr(&parts)?;
        ensure!(one_agent(&host)? == agent, "{program}");
        ensure!(host.web()?.epoch == before, "{program} moved the word");
    }
    host.deploy_plain("gen2")?;
    host.promote("gen2")?;
    host.ok(&["rollback"])?;
    host.ok(&["agent", "upgrade"])?;
    ensure!(one_agent(&host)? != agent);
    load.stop()?.expect_none_lost()
}

/// What a drain has begun with one agent it ends with another; who waits for it is told.
#[test]
fn a_drain_goes_on() -> Result<()> {
    let host = Host::with_config(&format!(
        "{SERVICE}drain = {{ signal_after = \"6s\", deadline = \"9s\" }}\n"
    ))?;
    host.deploy_plain("gen1")?;
    host.promote("gen1")?;
    host.deploy_plain("gen2")?;
    let held = Waiting::silent(host.netns(), target()?, 2)?;
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    let former = host.wait_state("gen1", &["draining"])?;
    // It drains from the store of the word; the rollout is in its drain once that is in the journal.
    wait::until_true("the rollout drains", LIMIT, || {
        host.agent_log().matches("begins phase=\"drain\"").count() == 2
    })?;
    for _ in 0..3 {
        host.ok(&["agent", "upgrade"])?;
        let draining = host.generation("gen1")?;
        ensure!(draining.state == "draining", "{draining:#?}");
        ensure!(draining.pid == former.pid, "{draining:#?}");
    }
    let told = promote.finish(LIMIT)?.expect_success()?;
    ensure!(
        told.stdout.contains("gen2 is active") && told.stdout.contains("upgraded meanwhile"),
        "{}",
        told.describe()
    );
    host.wait_state("gen1", &["stopping"])?;
    host.ok(&["agent", "upgrade"])?;
    let gen1 = host.wait_state("gen1", &["stopped"])?;
    let reason = gen1.reason.as_deref().unwrap_or_default();
    ensure!(reason.contains("2 connections cut"), "{gen1:#?}");
    drop(held);
    host.expect_answers(target()?, 20, "gen2")
}

#[test]
fn a_generation_that_dies_later_is_noticed() -> Result<()> {
    let host = scene()?;
    host.ok(&["agent", "upgrade"])?;
    kill(host.generation("gen1")?.process()?, Signal::SIGKILL)?;
    let failed = host.wait_state("gen1", &["failed"])?;
    ensure!(failed.reason.is_some(), "{failed:#?}");
    Ok(())
}

#[test]
fn not_while_a_deploy_runs() -> Result<()> {
    let host = scene()?;
    let agent = one_agent(&host)?;
    let slow = Plain::new("gen2").listen("0.0.0.0:8080");
    let line = slow.option("--listen-after-ms", 1_500).command()?;
    let mut words = vec!["deploy", "--generation", "gen2", "--"];
    words.extend(line.iter().map(String::as_str));
    let deploy = host.start_hotlb(&words)?;
    host.wait_state("gen2", &["starting"])?;
    host.hotlb(&["agent", "upgrade"])?
        .expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&["deploy on service web", "under way"])?;
    deploy.finish(LIMIT)?.expect_success()?;
    ensure!(one_agent(&host)? == agent);
    host.ok(&["agent", "upgrade"])?;
    ensure!(host.generation("gen2")?.state == "ready");
    Ok(())
}

#[test]
fn one_upgrade_at_a_time() -> Result<()> {
    let host = scene()?;
    let agent = one_agent(&host)?;
    let begun = host.directory().join("begun");
    let text = format!(
        "touch {}; sleep 2; exec {} \"$@\"",
        begun.display(),
        host.binary().display()
    );
    let waits = script(&host, "waits", &text)?;
    let first = host.start_hotlb(&["agent", "upgrade", &waits.display().to_string()])?;
    wait::until_true("the first has begun", LIMIT, || begun.exists())?;
    let second = wait::until("the second is refused", LIMIT, || {
        let run = host.hotlb(&["agent", "upgrade", "/bin/true"]).ok()?;
        (run.code == 6).then_some(run)
    })?;
    second
        .expect_one_line_error()?
        .expect_stderr(&["being upgraded"])?;
    // Verbs are welcome until the moment of the hand-over.
    host.ok(&["status"])?;
    first.finish(LIMIT)?.expect_success()?;
    ensure!(one_agent(&host)? != agent);
    Ok(())
}

#[test]
fn the_configuration_is_read_again() -> Result<()> {
    let host = scene()?;
    let agent = one_agent(&host)?;
    host.write_config("[service.web]\nlisten = \"everywhere\"\n")?;
    host.hotlb(&["agent", "upgrade"])?
        .expect_code(78)?
        .expect_one_line_error()?
        .expect_stderr(&["hotlb.toml:2:", "nothing was changed"])?;
    host.write_config("[service.web]\nlisten = [\"0.0.0.0:8081\"]\n")?;
    host.hotlb(&["agent", "upgrade"])?
        .expect_code(78)?
        .expect_stderr(&["its addresses or its user changed"])?;
    ensure!(one_agent(&host)? == agent);
    host.write_config(&format!(
        "[agent]\nmetrics = \"127.0.0.1:9999\"\n{SERVICE}[service.more]\nlisten = [\"0.0.0.0:8082\"]\n"
    ))?;
    host.ok(&["agent", "upgrade"])?;
    ensure!(host.status()?.service("more")?.active.is_none());
    let scrape = host.ask_path("127.0.0.1:9999".parse()?, "/metrics")?;
    ensure!(scrape.status == 200, "{scrape:?}");
    ensure!(
        host.ask_path("127.0.0.1:9464".parse()?, "/metrics")
            .is_err(),
        "the former address is served"
    );
    host.expect_answers(target()?, 20, "gen1")
}

/// Root may name a program; an operator may upgrade to the one root installed; nobody else may.
#[test]
fn who_may() -> Result<()> {
    let config = format!("[agent]\noperators = [\"www-data\"]\n{SERVICE}");
    let host = Host::with_config(&config)?;
    let hotlb = host.copy_of(host.binary())?.display().to_string();
    fs::set_permissions(host.socket(), fs::Permissions::from_mode(0o666))?;
    let ask = |uid: &str, words: &[&str]| {
        let mut asked = host.command("setpriv");
        asked.args([&format!("--reuid={uid}"), "--clear-groups", &hotlb]);
        asked.args(["agent", "upgrade"]).args(words);
        command::run(&mut asked, LIMIT)
    };
    ask("65534", &[])?.expect_code(4)?.expect_one_line_error()?;
    ask("33", &["/bin/true"])?
        .expect_code(4)?
        .expect_one_line_error()?;
    let agent = one_agent(&host)?;
    ask("33", &[])?.expect_success()?;
    ensure!(one_agent(&host)? != agent);
    Ok(())
}
