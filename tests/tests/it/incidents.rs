//! Promise: a second of a generation that is unlike the others is found, said in words and kept, with the connections
//! that waited and the functions that had the CPU; what is usual is not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    exposition::Exposition,
    heartbeat::Heartbeat,
    host::Host,
    incidents::{self, Incident},
    load::{Load, Plan},
    priority, report,
    servers::trouble,
    wait,
};

const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]";
/// Both generations serve, for as long as a test takes.
const DRAIN: &str = "drain = { signal_after = \"10m\", deadline = \"20m\", polite = \"off\" }";
const TARGET: &str = "127.0.0.1:8080";
const CONTROLS: [u16; 2] = [9001, 9002];
/// Windows without trouble first.
const USUAL: usize = 12;
const LIMIT: Duration = Duration::from_mins(1);
/// What an incident is about: the window that ended then, and the connections that were under way before it.
const WINDOW_MS: i64 = 1_500;
/// So long no CPU is away on a machine that has its own.
const AWAY: Duration = Duration::from_millis(20);
/// Of some 36 windows. A machine that is away more often says nothing about what is usual.
const EXCUSED: usize = 4;

fn host(keys: &str) -> Result<(Host, Load)> {
    priority::before_neighbours();
    let host = Host::with_service(&format!("{SERVICE}\n{DRAIN}\n{keys}"))?;
    let [control, _] = CONTROLS;
    let arguments = ["--wait-ms", "15"];
    host.upgrade("gen1", &trouble::command("gen1", control, &arguments)?)?;
    let load = host.load(Plan::new(TARGET.parse()?).workers(8).keep_alive())?;
    load.wait_more(20, LIMIT)?;
    Ok((host, load))
}

/// The newest incident, once there are `count`.
fn newest(host: &Host, count: usize) -> Result<Incident> {
    let found = wait::until(&format!("{count} incidents are kept"), LIMIT, || {
        let list = incidents::list(host).ok()?;
        list.into_iter().rev().nth(count - 1)
    });
    let found = found.with_context(|| {
        let windows = host.ok(&["incidents", "windows", "-n", "60"]);
        windows.map_or_else(|error| error.to_string(), |run| run.stdout)
    })?;
    incidents::show(host, &found.id)
}

fn metric(host: &Host, name: &str, label: &str) -> Result<f64> {
    Exposition::of(host, "text/plain")?.value(name, &[label])
}

#[test]
fn an_anomaly_of_one_of_two_generations_is_kept() -> Result<()> {
    let (mut host, old) = host("incidents = { stacks = true, pause = \"1s\", per_hour = 2 }")?;
    let [_, control] = CONTROLS;
    let arguments = ["--wait-ms", "15"];
    host.deploy("gen2", &trouble::command("gen2", control, &arguments)?)?;
    // In its drain, the rollout goes on: an incident falls into it.
    host.ok(&["promote", "gen2", "--no-wait"])?;
    let new = host.load(Plan::new(TARGET.parse()?).workers(8))?;
    incidents::wait_scored(&host, "gen2", USUAL, LIMIT)?;
    let quiet = incidents::list(&host)?;
    ensure!(quiet.is_empty(), "before anything went wrong: {quiet:?}");

    let [first, _] = CONTROLS;
    trouble::tell(host.netns(), control, "burn 5000 1000 40000")?;
    trouble::tell(host.netns(), control, "slow 5000 500 300")?;
    let incident = newest(&host, 1)?;
    report::figure("incidents: reason", &incident.reason);
    ensure!(incident.generation == "gen2", "{incident:?}");
    ensure!(incident.score >= 0.6, "{incident:?}");
    let said = incident.reason.contains("service time p");
    ensure!(
        said && incident.reason.contains("gen1 at the same time"),
        "{incident:?}"
    );
    ensure!(incident.beside.as_deref() == Some("gen1"), "{incident:?}");
    let slow = incident.connections.first().context("no slow connection")?;
    ensure!(
        slow.phase == "unanswered" && slow.waited_us > 100_000,
        "{slow:?}"
    );
    ensure!(
        slow.client.ip().is_loopback() && incident.bytes > 0,
        "{slow:?}"
    );
    let profile = incident.profile.as_ref().context("no stacks")?;
    ensure!(profile.generations.len() == 2, "{:?}", profile.notes);
    let guilty = profile
        .frames
        .iter()
        .any(|frame| frame.name.ends_with("trouble::needless"));
    ensure!(guilty, "{:?}", profile.frames);
    said_everywhere(&host, &incident)?;

    // The hour has room for one more, and then for none.
    trouble::tell(host.netns(), first, "stall 2500")?;
    let second = newest(&host, 2)?;
    ensure!(second.generation == "gen1", "{second:?}");
    trouble::tell(host.netns(), control, "slow 2500 1000 200")?;
    wait::until_true("an unusual window is held back", LIMIT, || {
        incidents::windows(&host).is_ok_and(|windows| {
            let of_gen2 = windows.iter().rev().filter(|w| w.generation == "gen2");
            of_gen2
                .take(2)
                .any(|w| w.score.is_some_and(|score| score >= 0.6))
        }) && metric(&host, "hotlb_windows_total", "held").is_ok_and(|held| held >= 1.0)
    })?;
    ensure!(
        incidents::list(&host)?.len() == 2,
        "more than two in an hour"
    );
    ensure!(
        metric(&host, "hotlb_incidents_total", "web")? >= 2.0,
        "not counted"
    );

    // What was kept is the agent's no more.
    host.kill_agent()?;
    host.start_agent()?;
    let again = incidents::show(&host, &incident.id)?;
    ensure!(
        again.reason == incident.reason && again.profile.is_some(),
        "{again:?}"
    );
    ensure!(
        metric(&host, "hotlb_incidents_total", "web")? >= 2.0,
        "forgotten"
    );
    for load in [old, new] {
        load.stop()?.expect_none_failed()?;
    }
    Ok(())
}

/// List, text, graph, status and the rollout's history.
fn said_everywhere(host: &Host, incident: &Incident) -> Result<()> {
    let id = incident.id.as_str();
    let list = host.ok(&["incidents", "web"])?;
    ensure!(
        list.stdout.contains(id) && list.stdout.contains("gen2"),
        "{}",
        list.describe()
    );
    let text = host.ok(&["incidents", "show", id])?;
    for part in [
        id,
        "reason",
        "unanswered",
        "windows of gen1",
        "needless",
        " > ",
    ] {
        ensure!(text.stdout.contains(part), "no {part}: {}", text.describe());
    }
    let status = host.ok(&["status"])?;
    let line = format!("incident {id} of gen2");
    ensure!(status.stdout.contains(&line), "{}", status.describe());
    let rollout = incident.rollout.as_deref().context("no rollout")?;
    wait::until_true("the rollout's history has it", LIMIT, || {
        let told = host.ok(&["history", "show", rollout]);
        told.is_ok_and(|told| told.stdout.contains(&line))
    })?;
    let graph = host.directory().join("incident.svg");
    let path = graph.display().to_string();
    host.ok(&["incidents", "show", id, "-o", &path])?;
    let svg = std::fs::read_to_string(graph)?;
    ensure!(
        svg.contains("gen1 -&gt; gen2") && svg.contains("needless"),
        "{svg}"
    );
    Ok(())
}

#[test]
fn a_quiet_run_has_no_incident_and_levels_of_load_are_none() -> Result<()> {
    let (host, load) = host("incidents = { pause = \"1s\" }")?;
    let heartbeat = Heartbeat::start()?;
    incidents::wait_scored(&host, "gen1", USUAL, LIMIT)?;
    // Three times as much to do.
    let more = host.load(Plan::new(TARGET.parse()?).workers(16))?;
    incidents::wait_scored(&host, "gen1", 2 * USUAL, LIMIT)?;
    more.stop()?;
    incidents::wait_scored(&host, "gen1", 3 * USUAL, LIMIT)?;
    // A second in which the machine was away is unusual indeed.
    let (excused, found): (Vec<_>, Vec<_>) =
        incidents::list(&host)?.into_iter().partition(|incident| {
            let away = heartbeat.away(incident.at_ms - WINDOW_MS..incident.at_ms);
            report::remark(format!("the CPUs were away for {away:?}: {incident:?}"));
            away >= AWAY
        });
    ensure!(excused.len() <= EXCUSED, "{excused:?}");
    ensure!(
        found.is_empty(),
        "{found:?}\n{}",
        host.ok(&["incidents", "windows", "-n", "60"])?.stdout
    );
    let scored = metric(&host, "hotlb_windows_total", "dropped")?;
    let took = metric(&host, "hotlb_screening_seconds_total", "web")?;
    report::figure(
        "incidents: reading and scoring one window of one generation, us",
        format!("{:.0}", took / scored * 1e6),
    );
    load.stop()?.expect_none_failed()
}

#[test]
fn switched_off_nothing_is_read() -> Result<()> {
    let (host, load) = host("incidents = false")?;
    trouble::tell(host.netns(), CONTROLS[0], "stall 2500")?;
    load.wait_more(2_000, LIMIT)?;
    ensure!(incidents::windows(&host)?.is_empty(), "windows");
    ensure!(incidents::list(&host)?.is_empty(), "incidents");
    ensure!(
        metric(&host, "hotlb_windows_total", "dropped")? == 0.0,
        "counted"
    );
    let told = host.ok(&["incidents", "windows"])?;
    ensure!(
        told.stdout.contains("incidents = false"),
        "{}",
        told.describe()
    );
    load.stop()?.expect_none_failed()
}

#[test]
fn wrong_usage_is_said() -> Result<()> {
    let mut host = Host::with_service(SERVICE)?;
    let none = host.ok(&["incidents"])?;
    ensure!(
        none.stdout.contains("no incidents yet"),
        "{}",
        none.describe()
    );
    let none = host.ok(&["incidents", "web"])?;
    ensure!(
        none.stdout.contains("no incidents of web yet"),
        "{}",
        none.describe()
    );
    for (arguments, code, said) in [
        (&["incidents", "mail"][..], 5, "mail"),
        (&["incidents", "windows", "mail"], 5, "mail"),
        (
            &["incidents", "show", "i9"],
            5,
            "incident i9 is not in the journal",
        ),
        (
            &["incidents", "show", "i9", "-o", "/no/such/place.svg"],
            1,
            "cannot write",
        ),
        (
            &["incidents", "show", "i9", "-o", "a.gif"],
            2,
            "cannot tell the format",
        ),
    ] {
        let run = host.hotlb(arguments)?;
        run.expect_code(code)?
            .expect_one_line_error()?
            .expect_stderr(&[said])?;
    }
    let run = host.hotlb(&["incidents", "show", "r9"])?;
    run.expect_code(2)?
        .expect_stderr(&["invalid incident id"])?;
    host.kill_agent()?;
    host.hotlb(&["incidents"])?
        .expect_code(3)?
        .expect_stderr(&["no agent runs"])?;
    Ok(())
}
