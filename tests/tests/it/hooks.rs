//! Promise: a hook runs in a cgroup of its own, ends at its deadline with everything that it started, and can neither
//! block nor flood the agent.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb::{
    config::{Hook, HookPhase},
    generation::hook::{self, HookOutcome, HookResult, HookRun},
    sys::{cgroup::Cgroup, netns::Netns},
};
use hotlb_tests::{alone, host::Host, report, wait};

/// What a result may come late, after the deadline.
const OVERRUN: Duration = Duration::from_millis(100);
/// A deadline that no hook here should need.
const AMPLE: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(10);

/// A place for hooks, without an agent: the runner is the agent's, the starter is the binary under test.
struct Scene {
    host: Host,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        Ok(Self {
            host: Host::without_agent()?,
            runtime,
        })
    }

    fn cgroup(&self) -> Result<Cgroup> {
        Ok(Cgroup::at(self.host.cgroup()?).child("hook"))
    }

    /// Runs a command; its cgroup must be gone afterwards.
    fn run(&self, command: &[&str], deadline: Duration) -> Result<HookResult> {
        let hook = Hook {
            deadline,
            ..Hook::new(
                HookPhase::Validate,
                command.iter().map(|&word| word.to_owned()).collect(),
            )?
        };
        let cgroup = self.cgroup()?;
        let env = [("PATH", "/usr/bin:/bin"), ("HOTLB_PHASE", "validate")];
        let run = HookRun {
            hook: &hook,
            cgroup: cgroup.clone(),
            netns: &Netns::own(),
            cwd: self.host.directory(),
            env: env.into_iter().collect(),
        };
        let began = Instant::now();
        let result = self.runtime.block_on(hook::run_by(self.host.binary(), run));
        let took = began.elapsed();
        ensure!(
            took < deadline + OVERRUN,
            "it took {took:?} of {deadline:?}: {result:?}"
        );
        wait::until_true("the hook's cgroup is removed", LIMIT, || !cgroup.exists())?;
        Ok(result)
    }

    fn shell(&self, text: &str, deadline: Duration) -> Result<HookResult> {
        self.run(&["sh", "-c", text], deadline)
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> Result<String> {
        let path = self.host.directory().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(path.display().to_string())
    }
}

fn expect(result: &HookResult, outcome: &HookOutcome) -> Result<()> {
    ensure!(result.outcome == *outcome, "{result:?}");
    Ok(())
}

/// Whether a process is there and not only waiting to be reaped.
fn lives(pid: i32) -> bool {
    let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.state != 'Z')
}

#[test]
fn a_hook_gets_its_place_and_says_what_it_likes() -> Result<()> {
    let scene = Scene::new()?;
    let text =
        "pwd; env | sort; cat; echo to-stderr >&2; grep ^0: /proc/self/cgroup; printf '\\033[2J'";
    let result = scene.shell(text, AMPLE)?;
    expect(&result, &HookOutcome::Succeeded)?;
    let cgroup = format!("0::/{}/hook", scene.host.netns().name());
    let directory = scene.host.directory().display().to_string();
    let lines: Vec<&str> = result.output.lines().collect();
    ensure!(
        lines
            == [
                directory.as_str(),
                "HOTLB_PHASE=validate",
                "PATH=/usr/bin:/bin",
                &format!("PWD={directory}"),
                "to-stderr",
                &cgroup,
                "\u{fffd}[2J",
            ],
        "{result:?}"
    );
    ensure!(result.dropped == 0, "{result:?}");
    Ok(())
}

#[test]
fn it_is_told_how_a_hook_failed() -> Result<()> {
    let scene = Scene::new()?;
    let failed = |how: &str| HookOutcome::Failed(how.to_owned());
    expect(
        &scene.shell("exit 3", AMPLE)?,
        &failed("exited with code 3"),
    )?;
    let killed = scene.shell("echo last words; kill -TERM $$", AMPLE)?;
    expect(&killed, &failed("was killed by SIGTERM"))?;
    ensure!(killed.output == "last words", "{killed:?}");
    Ok(())
}

#[test]
fn a_hook_that_cannot_start_says_why() -> Result<()> {
    let scene = Scene::new()?;
    let no_bit = scene.file("no-bit", "#!/bin/sh\n", 0o644)?;
    let no_shell = scene.file("no-shell", "#!/opt/none/sh\n", 0o755)?;
    let cases = [
        ("no-such-hook", "command not found: no-such-hook"),
        (no_bit.as_str(), "not an executable file"),
        (no_shell.as_str(), "No such file or directory"),
    ];
    for (program, expected) in cases {
        let result = scene.run(&[program], AMPLE)?;
        let HookOutcome::NotStarted(why) = &result.outcome else {
            anyhow::bail!("{program}: {result:?}");
        };
        ensure!(why.contains(expected), "{program}: {why}");
    }
    Ok(())
}

#[test]
fn a_hook_that_hangs_ends_at_its_deadline() -> Result<()> {
    let scene = Scene::new()?;
    let hangs = "trap '' TERM INT HUP; echo begun; while :; do sleep 1000; done";
    for deadline in [1, 50, 500].map(Duration::from_millis) {
        let result = scene.shell(hangs, deadline)?;
        expect(&result, &HookOutcome::TimedOut(deadline))?;
        ensure!(result.took >= deadline, "{result:?}");
        report::figure(
            &format!("overrun of a hook with a deadline of {deadline:?}"),
            format!(
                "{:.1} ms",
                result.took.saturating_sub(deadline).as_secs_f64() * 1e3
            ),
        );
    }
    ensure!(scene.shell(hangs, Duration::from_millis(500))?.output == "begun");
    Ok(())
}

#[test]
fn a_daemon_of_a_hook_ends_with_it() -> Result<()> {
    let scene = Scene::new()?;
    // In a session of its own, deaf to signals, and with the hook's pipe as stdout and stderr.
    let daemon = "(setsid sh -c 'trap \"\" TERM INT HUP; echo $$; exec sleep 1000' &)";
    let begun = Instant::now();
    let text = format!("{daemon}; until test -s said; do :; done; cat said");
    let text = text.replace("echo $$", "echo $$ >said");
    let result = scene.shell(&text, AMPLE)?;
    expect(&result, &HookOutcome::Succeeded)?;
    ensure!(begun.elapsed() < LIMIT, "the pipe was waited for");
    let pid = result.output.trim().parse().context("the daemon's pid")?;
    ensure!(!lives(pid), "the daemon lives");

    let result = scene.shell(
        &format!("rm said; {text}; sleep 1000"),
        Duration::from_millis(700),
    )?;
    expect(&result, &HookOutcome::TimedOut(Duration::from_millis(700)))?;
    let pid = result.output.trim().parse().context("the daemon's pid")?;
    ensure!(!lives(pid), "the daemon lives");
    Ok(())
}

#[test]
fn a_hook_that_prints_gigabytes_keeps_both_ends() -> Result<()> {
    // The peak of a process is the peak of all the tests in it.
    alone::run(prints_gigabytes)
}

fn prints_gigabytes() -> Result<()> {
    let scene = Scene::new()?;
    let before = resident()?;
    let deadline = Duration::from_secs(1);
    let result = scene.shell("echo the beginning; exec yes 0123456789", deadline)?;
    let growth = resident()?.saturating_sub(before);
    expect(&result, &HookOutcome::TimedOut(deadline))?;
    ensure!(result.output.starts_with("the beginning\n0123456789\n"));
    ensure!(result.output.len() < 66 * 1024, "{}", result.output.len());
    ensure!(
        result.dropped > 64 << 20,
        "it was held up: only {} bytes in {deadline:?}",
        result.dropped
    );
    ensure!(growth < 8 << 20, "grew by {growth} bytes");
    report::figure(
        "output of a hook in 1 s, read and dropped",
        format!(
            "{} MB, {} kB more memory at most",
            result.dropped / 1_000_000,
            growth / 1000
        ),
    );
    Ok(())
}

#[test]
fn the_last_words_are_never_lost() -> Result<()> {
    let scene = Scene::new()?;
    for _ in 0..50 {
        let result = scene.shell("seq 1 20000; echo the end >&2", AMPLE)?;
        expect(&result, &HookOutcome::Succeeded)?;
        ensure!(result.output.starts_with("1\n2\n3\n"), "{result:?}");
        ensure!(result.output.ends_with("\n20000\nthe end"), "{result:?}");
        let written: usize = (1..=20000).map(|n: i32| n.to_string().len() + 1).sum();
        ensure!(
            result.dropped == (written + "the end\n".len() - (64 << 10)) as u64,
            "{}",
            result.dropped
        );
    }
    Ok(())
}

#[test]
fn what_an_earlier_agent_left_is_ended_first() -> Result<()> {
    let scene = Scene::new()?;
    let cgroup = scene.cgroup()?;
    Cgroup::create(cgroup.path().to_owned())?;
    let mut left = std::process::Command::new("sleep").arg("1000").spawn()?;
    fs::write(cgroup.path().join("cgroup.procs"), left.id().to_string())?;
    let result = scene.shell("cat /proc/$$/cgroup >/dev/null", AMPLE);
    let ended = wait::until("it ends", LIMIT, || left.try_wait().ok().flatten());
    if ended.is_err() {
        left.kill()?;
    }
    ensure!(!ended?.success());
    expect(&result?, &HookOutcome::Succeeded)
}

/// The most memory this process has had, in bytes.
fn resident() -> Result<u64> {
    let status = fs::read_to_string(Path::new("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.context("no VmHWM")?.parse::<u64>()? * 1024)
}
