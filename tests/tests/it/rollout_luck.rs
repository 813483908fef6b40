//! Promise: bad luck and hasty operators cost nobody a request: a paused agent, two dead generations, two rollbacks at
//! once, a rollback to a program that is gone, a stop, `down` or Ctrl-C in the middle of a rollout.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    cgroups,
    command::{self, Run, Running},
    history,
    host::Host,
    load::Plan,
    locate,
    process::{self, pid_from},
    report,
    servers::{Kind, Plain},
    wait,
    waiting::Waiting,
};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(30);
const BAKE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_secs(6);

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    /// `gen1` is active.
    fn new(keys: &str) -> Result<Self> {
        let scene = Self {
            host: Host::with_service(&format!("listen = [\"0.0.0.0:8080\"]\n{keys}"))?,
            target: TARGET.parse()?,
        };
        scene.upgrade("gen1", &[])?.expect_success()?;
        Ok(scene)
    }

    fn server(&self, generation: &str) -> Result<Vec<String>> {
        Kind::Plain.command(self.host.directory(), generation, self.target.port())
    }

    fn start_upgrade(&self, generation: &str, options: &[&str]) -> Result<Running> {
        let server = self.server(generation)?;
        self.host.start_upgrade(generation, options, &server)
    }

    fn upgrade(&self, generation: &str, options: &[&str]) -> Result<Run> {
        self.start_upgrade(generation, options)?.finish(LIMIT)
    }

    fn status(&self) -> Result<Value> {
        let run = self.host.ok(&["status", "--output", "json"])?;
        Ok(serde_json::from_str(&run.stdout)?)
    }

    fn wait_phase(&self, phase: &str) -> Result<()> {
        wait::until_true(&format!("the rollout is in {phase}"), LIMIT, || {
            self.status().is_ok_and(|status| {
                history::text(&status, "/services/0/rollout/phase") == Some(phase)
            })
        })
    }

    fn wait_active(&self, generation: &str) -> Result<()> {
        wait::until_true(&format!("{generation} is active"), LIMIT, || {
            self.host
                .web()
                .is_ok_and(|web| web.active.as_deref() == Some(generation))
        })
    }

    fn expect_active(&self, generation: &str) -> Result<()> {
        let web = self.host.web()?;
        ensure!(web.active.as_deref() == Some(generation), "{web:#?}");
        self.host.expect_answers(self.target, 20, generation)
    }

    /// Stops the agent for a while; `meanwhile` is done when it stands still.
    fn pause(&mut self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        let agent = self.host.agent()?.pid();
        process::freeze(agent)?;
        let began = Instant::now();
        let done = meanwhile();
        let over = wait::until_true("the pause is over", PAUSE * 2, || began.elapsed() >= PAUSE);
        kill(agent, Signal::SIGCONT)?;
        done.and(over)
    }

    /// Has every rollout from here on run this hook, for ten minutes at most.
    fn long_hook(&mut self, phase: &str, hook: &str) -> Result<()> {
        let command = hook.split_once('=').context("no hook")?.1;
        let config = fs::read_to_string(self.host.config())?;
        let hook = format!("hooks.{phase} = {{ command = \"{command}\", deadline = \"10m\" }}");
        self.host.write_config(&format!("{config}{hook}\n"))?;
        self.host.kill_agent()?;
        self.host.start_agent()
    }

    fn wait_hook(&self, name: &str) -> Result<()> {
        let file = self.host.directory().join(name);
        wait::until_true("the hook runs", LIMIT, || file.exists())
    }

    fn expect_no_hook(&self) -> Result<()> {
        let hooks = self.host.cgroup()?.join("web.hooks");
        wait::until_true("no hook is left", LIMIT, || cgroups::is_empty(&hooks))
    }
}

/// A hook that says that it runs, and then hangs.
fn hangs(phase: &str, directory: &Path) -> String {
    format!("{phase}=touch {}/{phase}; sleep 1000", directory.display())
}

#[test]
fn an_agent_paused_for_longer_than_the_bake() -> Result<()> {
    let mut scene = Scene::new("")?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    let upgrade = scene.start_upgrade("gen2", &["--bake", "3s"])?;
    scene.wait_phase("bake")?;
    scene.pause(|| Ok(()))?;
    let resumed = Instant::now();
    upgrade.finish(LIMIT)?.expect_success()?;
    ensure!(resumed.elapsed() < BAKE, "it baked again");
    scene.expect_active("gen2")?;
    history::wait_all_over(&scene.host)?;
    history::expect_outcome(&scene.host, "done")?;
    load.stop()?.expect_none_lost()
}

#[test]
fn a_bake_is_not_slept_through() -> Result<()> {
    let mut scene = Scene::new("")?;
    let upgrade = scene.start_upgrade("gen2", &["--bake", "3s"])?;
    scene.wait_phase("bake")?;
    let candidate = scene.host.generation("gen2")?.process()?;
    scene.pause(|| process::freeze(candidate))?;
    let run = upgrade.finish(LIMIT)?.expect_code(1)?;
    run.expect_last_error(&["gen2", "probes"])?;
    scene.expect_active("gen1")?;
    history::expect_outcome(&scene.host, "rolled_back").map(drop)
}

#[test]
fn an_agent_paused_in_a_drain() -> Result<()> {
    let mut scene = Scene::new("drain = { signal_after = \"1s\", deadline = \"3s\" }")?;
    let held = Waiting::silent(scene.host.netns(), scene.target, 3)?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    let upgrade = scene.start_upgrade("gen2", &[])?;
    // Its time begins with the drain, a moment after it gets no new connection.
    wait::until_true("gen1 drains", LIMIT, || {
        let status = scene.host.ok(&["status"]);
        status.is_ok_and(|status| status.stdout.contains("gen1 is draining ("))
    })?;
    scene.pause(|| Ok(()))?;
    let resumed = Instant::now();
    upgrade.finish(LIMIT)?.expect_success()?;
    report::figure(
        "paused in a drain: from waking up to its end",
        format!("{:?}", resumed.elapsed()),
    );
    ensure!(
        resumed.elapsed() < Duration::from_secs(3),
        "{:?}",
        resumed.elapsed()
    );
    scene.host.wait_state("gen1", &["stopped"])?;
    ensure!(held.all_ended(), "a connection outlived its deadline");
    scene.expect_active("gen2")?;
    load.stop()?.expect_none_lost()
}

#[test]
fn both_generations_die_in_a_bake() -> Result<()> {
    let scene = Scene::new("")?;
    let upgrade = scene.start_upgrade("gen2", &["--bake", "60s"])?;
    scene.wait_phase("bake")?;
    for generation in ["gen1", "gen2"] {
        let pid = scene.host.generation(generation)?.process()?;
        cgroups::kill(&cgroups::of(pid)?)?;
    }
    let run = upgrade.finish(LIMIT)?.expect_code(9)?;
    ensure!(
        run.stderr.contains("no generation is active") && !run.stderr.contains("was rolled back"),
        "{}",
        run.describe()
    );
    let waiting = Waiting::open(scene.host.netns(), scene.target, 20)?;
    waiting.expect_silence()?;
    let web = scene.host.web()?;
    ensure!(web.active.is_none(), "{web:#?}");
    let loud = web.warnings.iter().any(|w| w.contains("clients wait"));
    ensure!(loud, "{:?}", web.warnings);
    scene.upgrade("gen3", &[])?.expect_success()?;
    let answers = waiting.answers()?;
    ensure!(answers.iter().all(|answer| answer.generation == "gen3"));
    scene.expect_active("gen3")
}

#[test]
fn two_rollbacks_at_once() -> Result<()> {
    let scene = Scene::new("")?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    for round in 0..5 {
        let next = format!("next{round}");
        scene.upgrade(&next, &[])?.expect_success()?;
        let both = [
            scene.host.start_hotlb(&["rollback"])?,
            scene.host.start_hotlb(&["rollback"])?,
        ];
        let [first, second] = both.map(|running| running.finish(LIMIT));
        let mut codes = [first?, second?].map(|run| run.code);
        codes.sort_unstable();
        ensure!(codes == [0, 6], "{codes:?}");
        scene.expect_active("gen1")?;
    }
    load.stop()?.expect_none_lost()
}

#[test]
fn two_rollbacks_at_once_in_a_bake() -> Result<()> {
    let scene = Scene::new("")?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    let upgrade = scene.start_upgrade("gen2", &["--bake", "60s"])?;
    scene.wait_phase("bake")?;
    let both = [
        scene.host.start_hotlb(&["rollback"])?,
        scene.host.start_hotlb(&["rollback"])?,
    ];
    for run in both.map(|running| running.finish(LIMIT)) {
        let run = run?;
        ensure!([0, 6].contains(&run.code), "{}", run.describe());
    }
    upgrade.finish(LIMIT)?.expect_code(1)?;
    scene.expect_active("gen1")?;
    load.stop()?.expect_none_lost()
}

#[test]
fn a_rollback_to_a_program_that_is_gone() -> Result<()> {
    let scene = Scene::new("")?;
    let program = scene.host.directory().join("server");
    fs::copy(locate::plain_server()?, &program)?;
    let path = program.display().to_string();
    let mut line = scene.server("gone")?;
    *line.first_mut().context("no program")? = path.clone();
    scene.host.upgrade("gone", &line)?;
    scene.upgrade("gen2", &[])?.expect_success()?;
    scene.host.ok(&["stop", "gone"])?;
    let aside = scene.host.directory().join("aside");
    fs::rename(&program, &aside)?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    for _ in 0..2 {
        let run = scene.host.hotlb(&["rollback"])?.expect_code(6)?;
        run.expect_last_error(&["its program is gone", &path, "nothing was changed"])?;
        scene.expect_active("gen2")?;
    }
    fs::rename(&aside, &program)?;
    scene.host.ok(&["rollback"])?;
    scene.expect_active("gone")?;
    load.stop()?.expect_none_lost()
}

#[test]
fn a_promote_while_another_rollout_loads() -> Result<()> {
    let scene = Scene::new("")?;
    scene.host.deploy("gen2", &scene.server("gen2")?)?;
    let hook = hangs("pre_load", scene.host.directory());
    let upgrade = scene.start_upgrade("gen3", &["--hook", &hook])?;
    scene.wait_hook("pre_load")?;
    let run = scene.host.hotlb(&["promote", "gen2"])?.expect_code(6)?;
    run.expect_one_line_error()?
        .expect_stderr(&["hotlb rollback", "pre_load"])?;
    scene.host.ok(&["rollback"])?;
    upgrade.finish(LIMIT)?.expect_code(1)?;
    scene.expect_no_hook()?;
    scene.expect_active("gen1")?;
    scene.host.promote("gen2")?;
    scene.expect_active("gen2")
}

/// The candidate is stopped while its rollout runs a hook; the hook fails in the end. Nothing stays behind.
#[test]
fn a_candidate_stopped_during_its_pre_load_hook() -> Result<()> {
    let scene = Scene::new("")?;
    for end in ["exit 0", "exit 3"] {
        let (begun, go_on) = (
            scene.host.directory().join("begun"),
            scene.host.directory().join("go-on"),
        );
        let hook = format!(
            "pre_load=touch {}; until test -e {}; do sleep 0.01; done; {end}",
            begun.display(),
            go_on.display()
        );
        let upgrade = scene.start_upgrade("gen2", &["--hook", &hook])?;
        wait::until_true("the hook runs", LIMIT, || begun.exists())?;
        scene.host.ok(&["stop", "gen2"])?;
        fs::write(&go_on, "")?;
        upgrade.finish(LIMIT)?.expect_code(1)?;
        scene.expect_active("gen1")?;
        fs::remove_file(&begun)?;
        fs::remove_file(&go_on)?;
    }
    scene.upgrade("gen2", &[])?.expect_success()?;
    scene.expect_active("gen2")
}

#[test]
fn down_during_a_hook_that_hangs() -> Result<()> {
    for phase in ["pre_load", "swap", "post_rollback"] {
        let mut scene = Scene::new("")?;
        let file = scene.host.directory().join(phase);
        let hook = hangs(phase, scene.host.directory());
        let mut options = vec!["--hook", hook.as_str()];
        if phase == "post_rollback" {
            scene.long_hook("post_rollback", &hook)?;
            options = vec!["--hook", "validate=exit 3"];
        }
        let upgrade = scene.start_upgrade("gen2", &options)?;
        wait::until_true("the hook runs", LIMIT, || file.exists())?;
        let began = Instant::now();
        scene.host.ok(&["down"])?;
        report::figure(
            &format!("down during a {phase} hook that hangs"),
            format!("{:?}", began.elapsed()),
        );
        upgrade.finish(LIMIT)?.expect_code(1)?;
        ensure!(scene.host.agent()?.wait(LIMIT)?.success());
        // A hook that puts things back gets its time, though not for ever.
        let longest = if phase == "post_rollback" { 40 } else { 10 };
        ensure!(
            began.elapsed() < Duration::from_secs(longest),
            "{:?}",
            began.elapsed()
        );
        wait::until_true("no process is left", LIMIT, || {
            scene.host.netns().pids().is_ok_and(|pids| pids.is_empty())
        })?;
        let directory = scene.host.cgroup()?;
        let left = fs::read_dir(&directory).map_or(0, |entries| {
            entries
                .flatten()
                .filter(|entry| entry.path().is_dir())
                .count()
        });
        ensure!(left == 0, "cgroups are left in {}", directory.display());
    }
    Ok(())
}

#[test]
fn ctrl_c_in_a_bake_ends_the_command_alone() -> Result<()> {
    let scene = Scene::new("")?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    let upgrade = scene.start_upgrade("gen2", &["--bake", "2s"])?;
    scene.wait_phase("bake")?;
    kill(pid_from(upgrade.id()), Signal::SIGINT)?;
    let run = upgrade.finish(LIMIT)?;
    ensure!(run.code != 0, "{}", run.describe());
    scene.wait_phase("bake")?;
    history::wait_all_over(&scene.host)?;
    history::expect_outcome(&scene.host, "done")?;
    scene.expect_active("gen2")?;
    scene.host.ok(&["rollback"])?;
    scene.expect_active("gen1")?;
    load.stop()?.expect_none_lost()
}

/// Killed while it starts the target of a rollback again: the next agent finishes the rollback.
#[test]
fn an_agent_killed_while_a_rollback_starts_its_target() -> Result<()> {
    let mut scene = Scene::new("")?;
    let line = Plain::new("slow")
        .listen("0.0.0.0:8080")
        .option("--listen-after-ms", 700)
        .command()?;
    scene.host.upgrade("slow", &line)?;
    scene.upgrade("gen2", &[])?.expect_success()?;
    scene.host.ok(&["stop", "slow"])?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    let rollback = scene.host.start_hotlb(&["rollback"])?;
    scene.host.wait_state("slow", &["starting"])?;
    scene.host.kill_agent()?;
    rollback.finish(LIMIT)?;
    scene.host.start_agent()?;
    history::wait_all_over(&scene.host)?;
    scene.wait_active("slow")?;
    history::expect_outcome(&scene.host, "rolled_back")?;
    scene.expect_active("slow")?;
    load.stop()?.expect_none_lost()
}

/// Killed while a hook runs: the hook ends, is not run again, and the rollout is undone.
#[test]
fn an_agent_killed_while_a_hook_runs() -> Result<()> {
    let mut scene = Scene::new("")?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    for phase in ["pre_load", "validate", "swap"] {
        let file = scene.host.directory().join(phase);
        let hook = format!(
            "{phase}=echo $HOTLB_ATTEMPT >> {}; sleep 1000",
            file.display()
        );
        let upgrade = scene.start_upgrade("gen2", &["--hook", &hook])?;
        scene.wait_hook(phase)?;
        scene.host.kill_agent()?;
        upgrade.finish(LIMIT)?;
        scene.host.start_agent()?;
        history::wait_all_over(&scene.host)?;
        history::expect_outcome(&scene.host, "rolled_back")?;
        scene.expect_active("gen1")?;
        scene.expect_no_hook()?;
        ensure!(fs::read_to_string(&file)? == "1\n", "{phase} ran twice");
        scene.host.wait_state("gen2", &["failed"])?;
    }
    load.stop()?.expect_none_lost()
}

#[test]
fn hooks_of_others_than_root_are_refused() -> Result<()> {
    const OPERATOR: [&str; 5] = [
        "setpriv",
        "--reuid=33",
        "--regid=33",
        "--groups=64999",
        "--",
    ];
    let host = Host::with_config(
        "[agent]\noperators = [\"www-data\"]\n[service.web]\nlisten = [\"0.0.0.0:8080\"]\n",
    )?;
    for place in [host.socket(), host.directory().join("run")] {
        std::os::unix::fs::chown(place, None, Some(64999))?;
    }
    let line = Kind::Plain.command(host.directory(), "gen1", 8080)?;
    let operate = |options: &[&str]| -> Result<Run> {
        let [program, rest @ ..] = OPERATOR;
        let mut wrapped = host.command(program);
        wrapped
            .args(rest)
            .arg(host.copy_of(host.binary())?)
            .args(["upgrade", "--generation", "gen1"])
            .args(options)
            .arg("--")
            .args(&line);
        command::run(&mut wrapped, LIMIT)
    };
    let mark = host.directory().join("mark");
    let hook = format!("pre_load=touch {}", mark.display());
    operate(&["--hook", &hook])?
        .expect_code(4)?
        .expect_one_line_error()?
        .expect_stderr(&["root", "configuration"])?;
    ensure!(!mark.exists(), "the hook ran");
    ensure!(host.web()?.active.is_none());
    operate(&[])?.expect_success()?;
    host.expect_answers(TARGET.parse()?, 20, "gen1")
}
