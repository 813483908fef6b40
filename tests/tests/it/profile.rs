//! Promise: a profile shows where exactly one generation spends its CPU time, without a change of the server.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    command,
    host::Host,
    locate,
    profile::Profile,
    report,
    servers::{node, split},
};

const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]";

#[test]
fn a_known_split_is_recovered_without_frame_pointers() -> Result<()> {
    let host = Host::with_service(SERVICE)?;
    host.upgrade("gen1", &split::command("inside", &["--spin"])?)?;
    // A neighbour that is busy too, of which no sample may appear.
    host.deploy("gen2", &split::command("outside", &["--spin"])?)?;
    let profile = Profile::take(
        &host,
        &[
            "gen1",
            "--for",
            "12s",
            "--frequency",
            "499",
            "--unwind",
            "dwarf",
        ],
    )?;
    for (function, percent) in [("::seventy", 70.0), ("::twenty", 20.0), ("::ten", 10.0)] {
        let found = profile.percent_in(function)?;
        report::figure(
            &format!("profile: percent in a function of {percent}"),
            format!("{found:.2}"),
        );
        ensure!(
            (found - percent).abs() < 2.0,
            "{found} % in {function}: {profile:?}"
        );
    }
    let taken = profile.percent_of_expected()?;
    report::figure(
        "profile: samples, percent of expected, CPU-bound",
        format!("{taken:.2}"),
    );
    ensure!(
        (98.0..102.0).contains(&taken),
        "{taken} % of the samples: {:?}",
        profile.notes
    );
    ensure!(
        profile.scope == "filtered" && profile.notes.is_empty(),
        "it was sampled by {}: {:?}",
        profile.scope,
        profile.notes
    );
    let sampled = profile.only()?;
    let foreign = sampled
        .stacks
        .iter()
        .find(|stack| stack.thread == "outside");
    ensure!(
        foreign.is_none(),
        "a sample of another generation: {foreign:?}"
    );
    let complete = profile.percent_complete()?;
    report::figure(
        "profile: complete stacks of a Rust server, percent",
        format!("{complete:.2}"),
    );
    ensure!(
        complete >= 95.0,
        "{complete} % are complete: {:?}",
        sampled.stacks.first()
    );
    let found = profile.percent_in("::work")?;
    ensure!(found > 98.0, "the caller is in {found} % of the stacks");
    let pointers = Profile::take(&host, &["gen1", "--for", "2s", "--unwind", "fp"])?;
    let found = pointers.percent_in("::work")?;
    report::figure(
        "profile: stacks with the caller by frame pointers, percent",
        format!("{found:.2}"),
    );
    ensure!(
        found < 50.0,
        "this program has frame pointers, so that the test shows nothing: {found} %"
    );
    Ok(())
}

#[test]
fn stacks_of_stock_nginx_are_complete() -> Result<()> {
    let name = "stacks_of_stock_nginx_are_complete";
    let Some(profile) = Profile::of_nginx(name, &[])? else {
        return Ok(());
    };
    let complete = profile.percent_complete()?;
    report::figure(
        "profile: complete stacks of percent",
        format!("{complete:.2}"),
    );
    report::figure(
        "profile: samples of percent of expected",
        format!("{:.2}", profile.percent_of_expected()?),
    );
    report::figure(
        "profile: CPU of sampling nginx at 99 Hz, percent of a core",
        format!(
            "{:.2}",
            100.0 * f64::from(u32::try_from(profile.own_cpu_ms)?)
                / f64::from(u32::try_from(profile.took_ms)?)
        ),
    );
    report::figure(
        "profile: memory of sampling MB",
        profile.own_memory_bytes >> 20,
    );
    ensure!(complete >= 95.0, "{complete} % are complete: {profile:?}");
    ensure!(
        profile.percent_in("ngx_process_events_and_timers")? > 80.0,
        "nginx has no names: {:?}",
        profile.frames
    );
    ensure!(
        profile.own_memory_bytes < 150 << 20,
        "{} bytes of memory",
        profile.own_memory_bytes
    );
    ensure!(
        profile.frames.iter().any(|frame| frame.kind == "kernel"),
        "nothing of the kernel"
    );
    Ok(())
}

#[test]
fn functions_in_javascript_have_names() -> Result<()> {
    let Some(binary) = node::binary() else {
        return report::skip(
            "functions_in_javascript_have_names",
            "node is not installed",
        );
    };
    let host = Host::with_service(SERVICE)?;
    let script = "function slowJavascript(n) { let x = 0; for (let i = 0; i < n; i++) { x = (x * 31 + i) % 1000003; } return x; } \
                  require('http').createServer((q, a) => { a.end(String(slowJavascript(1e6))); }).listen(8080, '0.0.0.0'); \
                  function again() { slowJavascript(1e6); setImmediate(again); } again(); \
                  process.on('SIGTERM', () => process.exit(0));";
    let binary = binary.display().to_string();
    let line = [binary.as_str(), "--perf-basic-prof", "-e", script];
    host.upgrade("gen1", &line.map(str::to_owned))?;
    let profile = Profile::take(&host, &["gen1", "--for", "3s"])?;
    let named = profile.percent(|profile, stack| {
        profile
            .functions(stack)
            .any(|frame| frame.kind == "jit" && frame.name.contains("slowJavascript"))
    })?;
    report::figure(
        "profile: node's samples in the named JavaScript function, percent",
        format!("{named:.2}"),
    );
    ensure!(named > 80.0, "{named} %: {:?}", profile.frames);
    ensure!(profile.percent_complete()? >= 95.0, "{profile:?}");
    Ok(())
}

#[test]
fn every_format_holds_the_samples() -> Result<()> {
    let host = Host::with_service(SERVICE)?;
    host.upgrade("gen1", &split::command("inside", &["--spin"])?)?;
    let file = |name: &str| host.directory().join(name);
    for name in ["a.svg", "a.folded", "a.pb.gz", "a.json"] {
        let path = file(name).display().to_string();
        let run = host.ok(&["profile", "gen1", "--for", "1s", "-o", &path])?;
        ensure!(
            run.stdout.contains(&path) && run.stdout.contains("expected"),
            "{}",
            run.describe()
        );
    }
    let svg = std::fs::read_to_string(file("a.svg"))?;
    ensure!(
        svg.contains("<svg") && svg.contains("web gen1: ") && svg.contains("seventy"),
        "{svg}"
    );
    let folded = std::fs::read_to_string(file("a.folded"))?;
    ensure!(
        folded.lines().all(|line| line
            .rsplit_once(' ')
            .is_some_and(|(path, count)| path.contains(';') && count.parse::<u64>().is_ok())),
        "{folded}"
    );
    ensure!(
        std::fs::read(file("a.pb.gz"))?.starts_with(&[0x1f, 0x8b]),
        "not compressed"
    );
    let json: Profile = serde_json::from_str(&std::fs::read_to_string(file("a.json"))?)?;
    ensure!(json.only()?.samples > 50, "{json:?}");
    let stdout = host.ok(&["profile", "gen1", "--for", "1s", "-o", "-"])?;
    ensure!(
        stdout
            .stdout
            .lines()
            .all(|line| line.starts_with("inside;") || line.starts_with("split-server;")),
        "{}",
        stdout.describe()
    );
    let table = host.ok(&["profile", "gen1", "--for", "1s"])?;
    ensure!(
        table.stdout.contains("FUNCTION") && table.stdout.contains("sampled by cgroup"),
        "{}",
        table.describe()
    );
    Ok(())
}

#[test]
fn pprof_reads_the_file() -> Result<()> {
    let Some(go) = locate::program("go") else {
        return report::skip("pprof_reads_the_file", "go is not installed");
    };
    let host = Host::with_service(SERVICE)?;
    host.upgrade("gen1", &split::command("inside", &["--spin"])?)?;
    let file = host.directory().join("a.pb.gz").display().to_string();
    for (option, kind) in [(None, "cpu"), (Some("--off-cpu"), "off_cpu")] {
        let mut arguments = vec!["profile", "gen1", "--for", "2s", "-o", &file];
        arguments.extend(option);
        host.ok(&arguments)?;
        let mut pprof = host.command(&go);
        pprof
            .args(["tool", "pprof", "-top", &file])
            .env("HOME", host.directory());
        let run = command::run(&mut pprof, Duration::from_mins(1))?.expect_success()?;
        ensure!(
            run.stdout.contains(&format!("Type: {kind}\n")),
            "{}",
            run.describe()
        );
        if option.is_none() {
            let first = run.stdout.lines().find(|line| line.ends_with("::seventy"));
            let row = first.with_context(|| run.describe())?;
            report::figure("profile: what pprof says of a function of 70 %", row.trim());
        }
    }
    Ok(())
}
