//! Promise: a service that is configured so keeps the last minutes of what its generations did, in bounded memory, also
//! of one that has ended.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    cgroups, host::Host, load::Plan, profile::Profile, report, servers::split, wait,
};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

const KEPT: &str =
    "listen = [\"0.0.0.0:8080\"]\n[service.web.profile]\ncontinuous = \"49 Hz\"\nkeep = \"2m\"";
const LIMIT: Duration = Duration::from_secs(40);

fn status(host: &Host) -> Result<Value> {
    let run = host.ok(&["status", "--output", "json"])?;
    let status: Value = serde_json::from_str(&run.stdout)?;
    status
        .pointer("/services/0/profiles")
        .cloned()
        .context("no profiles")
}

fn samples(host: &Host) -> Result<u64> {
    let samples = status(host)?.get("samples").and_then(Value::as_u64);
    samples.context("no number")
}

#[test]
fn what_was_done_is_kept_after_the_end() -> Result<()> {
    let host = Host::with_service(KEPT)?;
    host.upgrade("gen1", &split::command("gen1", &["--spin"])?)?;
    host.deploy("gen2", &split::command("gen2", &["--steps", "100"])?)?;
    wait::until_true("samples are kept", LIMIT, || {
        samples(&host).is_ok_and(|s| s > 300)
    })?;
    cgroups::kill(&cgroups::of(host.generation("gen1")?.process()?)?)?;
    wait::until_true("gen1 has ended", LIMIT, || {
        host.generation("gen1")
            .is_ok_and(|gen1| gen1.state != "active")
    })?;
    let profile = Profile::take(&host, &["gen1", "--last", "1m"])?;
    for (function, percent) in [("::seventy", 70.0), ("::twenty", 20.0), ("::ten", 10.0)] {
        let found = profile.percent_in(function)?;
        report::figure(
            &format!("kept profile: percent in a function of {percent}"),
            format!("{found:.2}"),
        );
        ensure!(
            (found - percent).abs() < 6.0,
            "{found} % in {function}: {profile:?}"
        );
    }
    let taken = profile.percent_of_expected()?;
    report::figure(
        "kept profile: samples, percent of expected",
        format!("{taken:.2}"),
    );
    ensure!((95.0..105.0).contains(&taken), "{taken} %");
    ensure!(profile.percent_complete()? >= 95.0, "{profile:?}");
    let file = host.directory().join("kept.svg").display().to_string();
    host.ok(&["profile", "gen1", "--last", "1m", "-o", &file])?;
    ensure!(std::fs::read_to_string(&file)?.contains("web gen1: "));
    let shown = host.ok(&["status"])?;
    ensure!(
        shown
            .stdout
            .contains("continuous profiling: 49 Hz, kept for 2m"),
        "{}",
        shown.describe()
    );
    let cost = status(&host)?;
    report::figure(
        "kept profile: CPU of 49 Hz, ms; memory, MB; samples",
        format!(
            "{}; {}; {}",
            cost["cpu_ms"],
            cost["memory_bytes"].as_u64().unwrap_or_default() >> 20,
            cost["samples"]
        ),
    );
    ensure!(
        cost["memory_bytes"].as_u64().is_some_and(|m| m < 150 << 20),
        "{cost}"
    );
    for (arguments, code, said) in [
        (
            &["profile", "gen9", "--last", "1m"][..],
            5,
            "no generation gen9",
        ),
        (
            &["profile", "gen2", "--last", "1m"],
            1,
            "nothing is kept of gen2",
        ),
        (&["profile", "gen1", "--last", "10m"], 2, "up to 2m"),
        (&["profile", "gen1", "--last", "0s"], 2, "up to 2m"),
        (
            &[
                "profile",
                "gen1",
                "--last",
                "1m",
                "-o",
                "/no/such/place/a.svg",
            ],
            1,
            "cannot write",
        ),
    ] {
        let run = host.hotlb(arguments)?.expect_code(code)?;
        run.expect_one_line_error()?.expect_stderr(&[said])?;
    }
    host.hotlb(&["profile", "gen1", "--last", "1m", "--off-cpu"])?
        .expect_code(2)?;
    Ok(())
}

#[test]
fn two_generations_are_compared_by_what_is_kept() -> Result<()> {
    let host = Host::with_service(KEPT)?;
    // At 49 Hz there are some 250 samples of each: the work has to be most of what a connection costs, or what
    // differs is too little to be told from chance on a machine whose network takes longer.
    host.upgrade("gen1", &split::command("gen1", &["--steps", "1000"])?)?;
    host.deploy(
        "gen2",
        &split::command("gen2", &["--steps", "1000", "--slow", "12"])?,
    )?;
    let target: SocketAddr = "127.0.0.1:8080".parse()?;
    let load = host.load(Plan::new(target).workers(4))?;
    wait::until_true("gen1 is sampled", LIMIT, || {
        samples(&host).is_ok_and(|s| s > 200)
    })?;
    host.ok(&["promote", "gen2", "--no-wait"])?;
    wait::until_true("gen2 is sampled", LIMIT, || {
        samples(&host).is_ok_and(|s| s > 500)
    })?;
    load.stop()?.expect_none_failed()?;
    let run = host.ok(&["profile", "--diff", "gen1", "gen2", "--last", "2m"])?;
    let mut lines = run
        .stdout
        .lines()
        .skip_while(|line| !line.contains("BEFORE %"));
    let row = lines.nth(1).with_context(|| run.describe())?;
    report::figure("kept profile: the function slowed twelvefold", row.trim());
    ensure!(
        run.stdout.contains("per connection opened"),
        "{}",
        run.describe()
    );
    ensure!(
        row.contains("yes") && row.trim_end().ends_with("::ten"),
        "{}",
        run.describe()
    );
    Ok(())
}

#[test]
fn nothing_is_kept_unless_it_is_configured() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    host.upgrade("gen1", &split::command("gen1", &["--spin"])?)?;
    let run = host
        .hotlb(&["profile", "gen1", "--last", "1m"])?
        .expect_code(6)?;
    run.expect_one_line_error()?.expect_stderr(&[
        "keeps no profiles",
        "[service.web.profile]",
        "without --last",
    ])?;
    ensure!(status(&host)?.is_null());
    Ok(())
}

#[test]
fn a_helper_that_was_killed_is_told_of() -> Result<()> {
    let host = Host::with_service(KEPT)?;
    host.upgrade("gen1", &split::command("gen1", &["--spin"])?)?;
    let helper = || {
        let pids = host.netns().pids().unwrap_or_default();
        pids.into_iter().find(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line.split('\0').any(|word| word == "__profile"))
        })
    };
    wait::until_true("the helper runs", LIMIT, || helper().is_some())?;
    kill(helper().context("no helper")?, Signal::SIGKILL)?;
    wait::until_true("status says so", LIMIT, || {
        host.ok(&["status"])
            .is_ok_and(|run| run.stdout.contains("! profiles are not kept"))
    })?;
    let run = host
        .hotlb(&["profile", "gen1", "--last", "1m"])?
        .expect_code(1)?;
    run.expect_one_line_error()?
        .expect_stderr(&["no profile is kept"])?;
    // Beside that everything goes on.
    Profile::take(&host, &["gen1", "--for", "1s"]).map(drop)
}
