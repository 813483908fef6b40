//! Promise: a rollout ends as done or as rolled back, whatever happens to its hooks, its candidate or the agent, and no
//! request fails meanwhile.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use hotlb_tests::{
    cgroups, command::Run, history, host::Host, load::Plan, report, servers::Kind, wait,
};
use serde_json::Value;

const TARGET: &str = "127.0.0.1:8080";
const LISTEN: &str = "listen = [\"0.0.0.0:8080\"]\n";

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    /// `gen1` is active.
    fn new(keys: &str) -> Result<Self> {
        let scene = Self {
            host: Host::with_service(&format!("{LISTEN}{keys}"))?,
            target: TARGET.parse()?,
        };
        scene.host.upgrade("gen1", &scene.server("gen1")?)?;
        Ok(scene)
    }

    fn server(&self, generation: &str) -> Result<Vec<String>> {
        Kind::Plain.command(self.host.directory(), generation, self.target.port())
    }

    /// `hotlb upgrade` to `generation`, with these options, whatever comes of it.
    fn upgrade(&self, generation: &str, options: &[&str]) -> Result<Run> {
        let server = self.server(generation)?;
        self.host.try_upgrade(generation, options, &server)
    }

    fn expect_active(&self, generation: &str) -> Result<()> {
        let web = self.host.web()?;
        ensure!(web.active.as_deref() == Some(generation), "{web:#?}");
        self.host.expect_answers(self.target, 20, generation)
    }
}

/// The text at this place; empty where there is none.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[test]
fn a_rollout_goes_through_its_phases_and_its_hooks_know_where_they_are() -> Result<()> {
    let scene = Scene::new("")?;
    let file = scene.host.directory().join("hooks");
    let line = "env | grep -E '^(HOTLB_|TRACEPARENT)' | sort >> ";
    let hook = |phase: &str| format!("{phase}={line}{}; echo said by {phase}", file.display());
    let hooks: Vec<String> = ["pre_load", "validate", "swap", "post-rollback"]
        .map(hook)
        .into();
    let mut options = Vec::new();
    for hook in &hooks {
        options.extend(["--hook", hook.as_str()]);
    }
    scene.upgrade("gen2", &options)?.expect_success()?;
    scene.expect_active("gen2")?;
    let told = history::last(&scene.host)?;
    let phases = history::phases(&told);
    ensure!(
        phases == ["pre_load", "validate", "swap", "bake", "drain"],
        "{phases:?}"
    );
    ensure!(text(&told, "/outcome") == "done", "{told}");
    let said = fs::read_to_string(&file)?;
    for expected in [
        "HOTLB_SERVICE=web",
        "HOTLB_FROM=gen1",
        "HOTLB_TO=gen2",
        "HOTLB_ATTEMPT=1",
        "HOTLB_PHASE=pre_load",
        "HOTLB_PHASE=validate",
        "HOTLB_PHASE=swap",
        "TRACEPARENT=00-",
    ] {
        ensure!(said.contains(expected), "{expected} is missing:\n{said}");
    }
    ensure!(
        !said.contains("post_rollback"),
        "nothing was rolled back:\n{said}"
    );
    let said = history::records(&told)
        .into_iter()
        .filter(|r| text(r, "/output").contains("said by"));
    ensure!(said.count() == 3, "{told}");
    Ok(())
}

#[test]
fn a_hook_that_fails_in_any_phase_leads_back() -> Result<()> {
    let scene = Scene::new("")?;
    let load = scene.host.load(Plan::new(scene.target))?;
    for (phase, expected) in [
        ("pre_load", "rolling_back"),
        ("validate", "rolling_back"),
        ("swap", "post_rollback"),
    ] {
        let file = scene.host.directory().join(phase);
        let failing = format!("{phase}=echo no >&2; exit 3");
        let after = format!("post_rollback=echo \"$HOTLB_REASON\" > {}", file.display());
        let run = scene.upgrade("gen2", &["--hook", &failing, "--hook", &after])?;
        ensure!(run.code == 1, "{}", run.describe());
        run.expect_last_error(&[phase, "exited with code 3"])?;
        ensure!(fs::read_to_string(&file)?.contains("exited with code 3"));
        scene.expect_active("gen1")?;
        let told = history::last(&scene.host)?;
        ensure!(history::phases(&told).contains(&expected), "{told}");
        ensure!(text(&told, "/outcome") == "rolled_back", "{told}");
        scene.host.wait_state("gen2", &["failed", "stopped"])?;
    }
    load.stop()?.expect_none_lost()
}

#[test]
fn a_hook_that_hangs_is_ended_at_its_deadline() -> Result<()> {
    let scene =
        Scene::reconfigured("hooks.validate = { command = \"sleep 60\", deadline = \"500ms\" }")?;
    let began = Instant::now();
    let run = scene.upgrade("gen2", &[])?;
    let took = began.elapsed();
    ensure!(run.code == 1, "{}", run.describe());
    ensure!(took < Duration::from_secs(5), "{took:?}");
    scene.expect_active("gen1")
}

#[test]
fn a_candidate_that_dies_in_the_bake_is_rolled_back() -> Result<()> {
    let scene = Scene::baking("30s")?;
    let load = scene.host.load(Plan::new(scene.target))?;
    let upgrade = scene.start_upgrade("gen2")?;
    scene.wait_phase("bake")?;
    scene.expect_active("gen2")?;
    let pid = scene.host.generation("gen2")?.process()?;
    cgroups::kill(&cgroups::of(pid)?)?;
    let run = upgrade.finish(Duration::from_secs(20))?;
    ensure!(run.code == 1, "{}", run.describe());
    run.expect_last_error(&["gen2", "bake"])?;
    scene.expect_active("gen1")?;
    let told = history::last(&scene.host)?;
    ensure!(text(&told, "/outcome") == "rolled_back", "{told}");
    // What it was answering when it was killed nobody can answer twice.
    let outcome = load.stop()?;
    report::remark(format!(
        "killed in the bake: {} of {} requests failed",
        outcome.failed,
        outcome.requests()
    ));
    ensure!(outcome.failed <= 64, "{outcome:?}");
    Ok(())
}

impl Scene {
    fn baking(bake: &str) -> Result<Self> {
        Self::reconfigured(&format!("bake = \"{bake}\""))
    }

    /// `gen1` is active; these keys are for those that come after it.
    fn reconfigured(keys: &str) -> Result<Self> {
        let mut scene = Self::new("")?;
        let config = fs::read_to_string(scene.host.config())?;
        scene.host.write_config(&format!("{config}{keys}\n"))?;
        scene.host.kill_agent()?;
        scene.host.start_agent()?;
        Ok(scene)
    }

    fn start_upgrade(&self, generation: &str) -> Result<hotlb_tests::command::Running> {
        let server = self.server(generation)?;
        self.host.start_upgrade(generation, &[], &server)
    }

    fn wait_phase(&self, phase: &str) -> Result<()> {
        wait::until_true(
            &format!("the rollout is in {phase}"),
            Duration::from_secs(20),
            || {
                self.status_json()
                    .is_ok_and(|status| text(&status, "/services/0/rollout/phase") == phase)
            },
        )
    }

    fn status_json(&self) -> Result<Value> {
        let run = self.host.ok(&["status", "--output", "json"])?;
        Ok(serde_json::from_str(&run.stdout)?)
    }
}

#[test]
fn a_candidate_that_stops_answering_in_the_bake_is_rolled_back() -> Result<()> {
    let scene = Scene::baking("60s")?;
    let upgrade = scene.start_upgrade("gen2")?;
    scene.wait_phase("bake")?;
    let pid = scene.host.generation("gen2")?.process()?;
    hotlb_tests::process::freeze(pid)?;
    let run = upgrade.finish(Duration::from_secs(30))?;
    ensure!(run.code == 1, "{}", run.describe());
    run.expect_last_error(&["gen2", "probes"])?;
    scene.expect_active("gen1")
}

#[test]
fn a_rollback_in_the_bake_goes_back_at_once() -> Result<()> {
    let scene = Scene::baking("60s")?;
    let load = scene.host.load(Plan::new(scene.target))?;
    let upgrade = scene.start_upgrade("gen2")?;
    scene.wait_phase("bake")?;
    scene.host.ok(&["rollback"])?;
    scene.expect_active("gen1")?;
    let run = upgrade.finish(Duration::from_secs(10))?;
    ensure!(run.code == 1, "{}", run.describe());
    run.expect_last_error(&["cancelled", "rollback"])?;
    scene.host.wait_state("gen2", &["standby", "stopped"])?;
    let again = scene.host.hotlb(&["rollback"])?;
    ensure!(again.code == 6, "{}", again.describe());
    load.stop()?.expect_none_lost()
}

#[test]
fn a_promote_in_the_bake_cuts_it_short() -> Result<()> {
    let scene = Scene::baking("60s")?;
    let upgrade = scene.start_upgrade("gen2")?;
    scene.wait_phase("bake")?;
    let third = scene.start_upgrade("gen3")?;
    wait::until_true("gen3 is active", Duration::from_secs(20), || {
        scene
            .host
            .web()
            .is_ok_and(|web| web.active.as_deref() == Some("gen3"))
    })?;
    upgrade.finish(Duration::from_secs(20))?.expect_success()?;
    scene.expect_active("gen3")?;
    scene.host.ok(&["rollback"])?;
    scene.expect_active("gen2")?;
    let run = third.finish(Duration::from_secs(20))?;
    ensure!(run.code == 1, "{}", run.describe());
    Ok(())
}

#[test]
fn no_wait_returns_when_the_traffic_has_moved() -> Result<()> {
    let scene = Scene::new("")?;
    let began = Instant::now();
    let run = scene
        .upgrade("gen2", &["--bake", "20s", "--no-wait"])?
        .expect_success()?;
    ensure!(
        began.elapsed() < Duration::from_secs(10),
        "{}",
        run.describe()
    );
    scene.expect_active("gen2")?;
    scene.wait_phase("bake")?;
    scene.host.ok(&["rollback"])?;
    scene.expect_active("gen1")
}

#[test]
fn a_rollback_can_name_its_aim() -> Result<()> {
    let scene = Scene::new("keep = { generations = 2, for = \"10m\" }\n")?;
    for generation in ["gen2", "gen3"] {
        scene.upgrade(generation, &[])?.expect_success()?;
    }
    scene.host.wait_state("gen1", &["standby"])?;
    scene.host.wait_state("gen2", &["standby"])?;
    scene.host.ok(&["rollback", "--to", "gen1"])?;
    scene.expect_active("gen1")?;
    let run = scene.host.hotlb(&["rollback", "--to", "gen9"])?;
    ensure!(run.code == 5, "{}", run.describe());
    scene.host.ok(&["stop", "gen2"])?;
    // Its command is started again.
    scene.host.ok(&["rollback", "--to", "gen2"])?;
    scene.expect_active("gen2")
}
