//! Promise: of two generations that are sampled at the same moment, the function that became slow is shown first, and
//! where nothing changed nothing is called significant.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{cgroups, host::Host, load::Plan, report, servers::split, wait};

const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]";
/// CPU time that a generation has before the other one gets the clients.
const TURN: Duration = Duration::from_millis(700);
const LIMIT: Duration = Duration::from_secs(40);

/// Compares `gen1` with a `gen2` of other arguments. They serve the clients in turns, so that whatever
/// else happens on the machine happens to both.
fn compare(gen1: &[&str], gen2: &[&str]) -> Result<String> {
    let host = Host::with_service(SERVICE)?;
    host.upgrade("gen1", &split::command("gen1", gen1)?)?;
    host.deploy("gen2", &split::command("gen2", gen2)?)?;
    let target: SocketAddr = "127.0.0.1:8080".parse()?;
    let load = host.load(Plan::new(target).workers(4))?;
    load.wait_more(20, LIMIT)?;
    let arguments = [
        "profile",
        "--diff",
        "gen1",
        "gen2",
        "--for",
        "8s",
        "--frequency",
        "499",
    ];
    let mut profile = host.start_hotlb(&arguments)?;
    let mut turns = 0;
    for name in ["gen1", "gen2"].into_iter().cycle() {
        let cgroup = cgroups::of(host.generation(name)?.process()?)?;
        let before = cgroups::cpu_time(&cgroup)?;
        wait::until_true("a generation has had its turn", LIMIT, || {
            profile.ended().unwrap_or(true)
                || cgroups::cpu_time(&cgroup).is_ok_and(|used| used > before + TURN)
        })?;
        if profile.ended()? {
            break;
        }
        turns += 1;
        let other = if name == "gen1" { "gen2" } else { "gen1" };
        host.ok(&["promote", other])?;
    }
    ensure!(turns > 3, "{turns} turns");
    let run = profile.finish(LIMIT)?.expect_success();
    load.stop()?.expect_none_lost()?;
    Ok(run?.stdout)
}

/// The first row of the table.
fn first_row(text: &str) -> Result<&str> {
    let mut lines = text.lines().skip_while(|line| !line.contains("BEFORE %"));
    lines.nth(1).with_context(|| text.to_owned())
}

#[test]
fn the_function_that_became_slow_comes_first() -> Result<()> {
    let text = compare(&["--steps", "100"], &["--steps", "100", "--slow", "12"])?;
    ensure!(text.contains("per connection opened"), "{text}");
    let row = first_row(&text)?;
    report::figure("profile: the function slowed twelvefold", row.trim());
    ensure!(
        row.contains("yes") && row.trim_end().ends_with("::ten"),
        "{text}"
    );
    Ok(())
}

#[test]
fn the_same_program_has_not_changed() -> Result<()> {
    let arguments = ["--steps", "100"];
    let text = compare(&arguments, &arguments)?;
    report::figure(
        "profile: functions of an unchanged program that are called significant",
        text.lines().filter(|line| line.contains("yes (p")).count(),
    );
    ensure!(text.contains("no function changed significantly"), "{text}");
    Ok(())
}

#[test]
fn a_generation_beside_itself_has_not_changed() -> Result<()> {
    let host = Host::with_service(SERVICE)?;
    host.upgrade("gen1", &split::command("gen1", &["--steps", "100"])?)?;
    let load = host.load(Plan::new("127.0.0.1:8080".parse()?).workers(4))?;
    load.wait_more(20, LIMIT)?;
    let run = host.ok(&["profile", "--diff", "gen1", "gen1", "--for", "5s"]);
    load.stop()?;
    let run = run?;
    ensure!(
        run.stdout.contains("no function changed significantly"),
        "{}",
        run.describe()
    );
    Ok(())
}
