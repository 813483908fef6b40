//! Promise: by frame pointers stacks are counted in the kernel, of exactly one generation, and what found no room there is
//! shown.

use std::time::Duration;

use anyhow::{Result, ensure};
use hotlb_tests::{
    cgroups,
    host::Host,
    profile::{Helper, Profile},
    report,
    servers::split,
    wait,
};
use nix::sys::signal::{Signal, kill};
use serde_json::json;

const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]";
const LIMIT: Duration = Duration::from_secs(20);

/// A host whose first generation works all the time and has frame pointers; so does a neighbour.
fn spinning() -> Result<Host> {
    let host = Host::with_service(SERVICE)?;
    host.upgrade("gen1", &split::with_frame_pointers("inside"))?;
    host.deploy("gen2", &split::with_frame_pointers("outside"))?;
    Ok(host)
}

fn expect_only_inside(profile: &Profile) -> Result<()> {
    let foreign = profile.only()?.stacks.iter();
    let foreign: Vec<_> = foreign.filter(|stack| stack.thread != "inside").collect();
    ensure!(foreign.is_empty(), "samples of others: {foreign:?}");
    Ok(())
}

fn expect_nothing_less(profile: &Profile) -> Result<()> {
    ensure!(
        profile.scope == "filtered" && profile.notes.is_empty(),
        "it was sampled by {}: {:?}",
        profile.scope,
        profile.notes
    );
    Ok(())
}

#[test]
fn a_known_split_is_recovered_by_frame_pointers() -> Result<()> {
    let host = spinning()?;
    let profile = Profile::take(
        &host,
        &[
            "gen1",
            "--for",
            "12s",
            "--frequency",
            "499",
            "--unwind",
            "fp",
        ],
    )?;
    expect_nothing_less(&profile)?;
    for (function, percent) in [("::seventy", 70.0), ("::twenty", 20.0), ("::ten", 10.0)] {
        let found = profile.percent_in(function)?;
        report::figure(
            &format!("profile by frame pointers: percent in a function of {percent}"),
            format!("{found:.2}"),
        );
        ensure!(
            (found - percent).abs() < 2.0,
            "{found} % in {function}: {profile:?}"
        );
    }
    for caller in ["::work", "::spin"] {
        let found = profile.percent_in(caller)?;
        ensure!(found > 98.0, "{caller} is in {found} % of the stacks");
    }
    let taken = profile.percent_of_expected()?;
    report::figure(
        "profile by frame pointers: samples, percent of expected",
        format!("{taken:.2}"),
    );
    ensure!((98.0..102.0).contains(&taken), "{taken} % of the samples");
    let sampled = profile.only()?;
    ensure!(sampled.lost == 0, "{} lost", sampled.lost);
    expect_only_inside(&profile)?;
    report::figure(
        "profile by frame pointers: CPU of 12 s at 499 Hz, ms",
        profile.own_cpu_ms,
    );
    Ok(())
}

#[test]
fn what_found_no_room_is_shown_as_lost() -> Result<()> {
    let host = spinning()?;
    let plan = json!({ "unwind": "fp", "frequency": 499, "duration_ms": 3000, "room": 2 });
    let profile = Helper::start(&host, &plan)?.profile()?;
    expect_nothing_less(&profile)?;
    expect_only_inside(&profile)?;
    let sampled = profile.only()?;
    report::figure(
        "profile by frame pointers: samples, and lost without room",
        format!("{}, {}", sampled.samples, sampled.lost),
    );
    ensure!(
        sampled.lost > 100 && sampled.samples > 0,
        "{} samples, {} lost",
        sampled.samples,
        sampled.lost
    );
    let all = f64::from(u32::try_from(sampled.samples + sampled.lost)?);
    let expected = f64::from(u32::try_from(sampled.expected.unwrap_or_default())?);
    ensure!(
        (0.95..1.05).contains(&(all / expected)),
        "{all} samples and lost of {expected}"
    );
    Ok(())
}

#[test]
fn names_are_those_of_a_generation_that_has_ended_meanwhile() -> Result<()> {
    let host = spinning()?;
    let plan = json!({ "unwind": "fp", "duration_ms": 60_000 });
    let pid = host.generation("gen1")?.process()?;
    let cgroup = cgroups::of(pid)?;
    let helper = Helper::start(&host, &plan)?;
    let before = cgroups::cpu_time(&cgroup)?;
    wait::until_true("it works while it is sampled", LIMIT, || {
        cgroups::cpu_time(&cgroup).is_ok_and(|used| used > before + Duration::from_secs(2))
    })?;
    kill(pid, Signal::SIGKILL)?;
    let profile = helper.profile()?;
    ensure!(
        profile.notes.iter().any(|note| note.contains("gen1 ended")),
        "{:?}",
        profile.notes
    );
    let found = profile.percent_in("::seventy")?;
    ensure!(found > 50.0, "{found} % have the name: {profile:?}");
    Ok(())
}

#[test]
fn without_the_program_it_is_said() -> Result<()> {
    let host = spinning()?;
    for (unwind, said) in [
        ("fp", "each call chain comes as a record"),
        ("auto", "costs the server more"),
    ] {
        let plan = json!({ "unwind": unwind, "duration_ms": 1000 });
        let profile = Helper::start_without_bpf(&host, &plan)?.profile()?;
        ensure!(
            profile.scope != "filtered" && profile.notes.iter().any(|note| note.contains(said)),
            "it was sampled by {}: {:?}",
            profile.scope,
            profile.notes
        );
        ensure!(profile.percent_in("::work")? > 98.0, "{profile:?}");
        expect_only_inside(&profile)?;
    }
    Ok(())
}
