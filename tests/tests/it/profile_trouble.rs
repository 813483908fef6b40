//! Promise: where a profile cannot be made, or only a part of one, it is said why; nothing is left behind.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    cgroups, command,
    host::Host,
    locate,
    process::pid_from,
    profile::Profile,
    report,
    servers::{Kind, python, split},
    wait,
};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::mkfifo,
};

const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]";
const LIMIT: Duration = Duration::from_secs(20);

fn spinning() -> Result<Host> {
    let host = Host::with_service(SERVICE)?;
    host.upgrade("gen1", &split::command("inside", &["--spin"])?)?;
    Ok(host)
}

/// The processes that sample for agents of this host.
fn helpers(host: &Host) -> Vec<u32> {
    let is_helper = |pid: &nix::unistd::Pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
        line.is_ok_and(|line| line.split('\0').any(|word| word == "__profile"))
    };
    let pids = host.netns().pids().unwrap_or_default();
    pids.iter()
        .filter(|pid| is_helper(pid))
        .filter_map(|pid| u32::try_from(pid.as_raw()).ok())
        .collect()
}

#[test]
fn a_generation_that_ends_meanwhile_is_shown_as_far_as_it_came() -> Result<()> {
    let host = spinning()?;
    let pid = host.generation("gen1")?.process()?;
    let profile = host.start_hotlb(&["profile", "gen1", "--for", "60s", "-o", "json"])?;
    wait::until_true("the helper runs", LIMIT, || !helpers(&host).is_empty())?;
    let cgroup = cgroups::of(pid)?;
    let before = cgroups::cpu_time(&cgroup)?;
    wait::until_true("it works while it is sampled", LIMIT, || {
        cgroups::cpu_time(&cgroup).is_ok_and(|used| used > before + Duration::from_secs(2))
    })?;
    cgroups::kill(&cgroup)?;
    let run = profile.finish(LIMIT)?.expect_success()?;
    let profile: Profile = serde_json::from_str(&run.stdout)?;
    ensure!(
        profile.took_ms < 30_000 && profile.only()?.samples > 0,
        "{profile:?}"
    );
    ensure!(
        profile.notes.iter().any(|note| note.contains("gen1 ended")),
        "{:?}",
        profile.notes
    );
    ensure!(
        profile.percent_in("::seventy")? > 30.0,
        "no names after the end: {:?}",
        profile.frames
    );
    let run = host.hotlb(&["profile", "gen1", "--for", "1s"])?;
    run.expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&["gen1 has no process"])?;
    Ok(())
}

#[test]
fn wrong_usage_is_refused_before_anything_is_sampled() -> Result<()> {
    let host = spinning()?;
    for (arguments, code, said) in [
        (&["profile", "gen9"][..], 5, "no generation gen9"),
        (&["profile", "--service", "mail", "gen1"], 5, "mail"),
        (
            &["profile", "gen1", "-o", "/no/such/place/a.svg"],
            1,
            "cannot write",
        ),
        (
            &["profile", "gen1", "-o", "/a/directory/is/no/file.svg"],
            1,
            "cannot write",
        ),
        (&["profile", "gen1", "-o", "/"], 2, "format"),
        (&["profile", "gen1", "-o", "picture"], 2, "format"),
        (&["profile", "gen1", "--for", "10m"], 2, "1s to 5m"),
        (&["profile", "gen1", "--for", "10ms"], 2, "1s to 5m"),
        (&["profile", "gen1", "gen1"], 2, "--diff"),
        (&["profile", "--diff", "gen1"], 2, "two generations"),
    ] {
        let run = host.hotlb(arguments)?.expect_code(code)?;
        run.expect_one_line_error()?.expect_stderr(&[said])?;
    }
    host.hotlb(&["profile", "gen1", "--frequency", "1000"])?
        .expect_code(2)?;
    host.hotlb(&["profile"])?.expect_code(2)?;
    host.hotlb(&["status", "--output", "yaml"])?
        .expect_code(2)?
        .expect_stderr(&["yaml"])?;
    ensure!(
        !host.agent_log().contains("took a profile"),
        "something was sampled"
    );
    Ok(())
}

#[test]
fn an_idle_generation_has_nothing_to_show() -> Result<()> {
    let host = Host::with_service(SERVICE)?;
    host.upgrade(
        "gen1",
        &Kind::Plain.command(host.directory(), "gen1", 8080)?,
    )?;
    let file = host.directory().join("idle.svg").display().to_string();
    let run = host.hotlb(&[
        "profile",
        "gen1",
        "--for",
        "1s",
        "--frequency",
        "9",
        "-o",
        &file,
    ])?;
    run.expect_code(1)?
        .expect_one_line_error()?
        .expect_stderr(&["gen1 used too little CPU time", "idle"])?;
    ensure!(
        !std::path::Path::new(&file).exists(),
        "an empty picture was written"
    );
    Ok(())
}

#[test]
fn only_root_may_ask() -> Result<()> {
    let config = format!("[agent]\noperators = [\"www-data\"]\n[service.web]\n{SERVICE}\n");
    let host = Host::with_config(&config)?;
    host.upgrade("gen1", &split::command("inside", &["--spin"])?)?;
    for place in [host.socket(), host.directory().join("run")] {
        std::os::unix::fs::chown(place, None, Some(64999))?;
    }
    let binary = host.copy_of(host.binary())?;
    let mut asked = host.command("setpriv");
    asked
        .args(["--reuid=33", "--regid=33", "--groups=64999"])
        .arg(binary)
        .args(["profile", "gen1", "--for", "1s"]);
    let run = command::run(&mut asked, LIMIT)?;
    run.expect_code(4)?
        .expect_one_line_error()?
        .expect_stderr(&["only root", "sudo"])?;
    Ok(())
}

#[test]
fn there_is_one_at_a_time_and_none_is_left() -> Result<()> {
    let host = spinning()?;
    let file = host.directory().join("a.svg");
    let first = host.start_hotlb(&[
        "profile",
        "gen1",
        "--for",
        "60s",
        "-o",
        &file.display().to_string(),
    ])?;
    wait::until_true("the helper runs", LIMIT, || helpers(&host).len() == 1)?;
    let second = host.hotlb(&["profile", "gen1", "--for", "1s"])?;
    second
        .expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&["is being made"])?;
    // Ctrl-C.
    kill(pid_from(first.id()), Signal::SIGINT)?;
    let run = first.finish(LIMIT)?;
    ensure!(run.code != 0, "{}", run.describe());
    wait::until_true("the helper has ended", LIMIT, || helpers(&host).is_empty())?;
    let left = std::fs::read_dir(host.directory())?.filter_map(Result::ok);
    let left: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| {
            let name = name.to_string_lossy();
            name.contains("hotlb-profile") || name.ends_with(".svg")
        })
        .collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Profile::take(&host, &["gen1", "--for", "1s"])?;
    Ok(())
}

#[test]
fn a_helper_dies_with_the_agent() -> Result<()> {
    let mut host = spinning()?;
    let profile = host.start_hotlb(&["profile", "gen1", "--for", "60s"])?;
    wait::until_true("the helper runs", LIMIT, || helpers(&host).len() == 1)?;
    host.kill_agent()?;
    profile
        .finish(LIMIT)?
        .expect_code(1)?
        .expect_stderr(&["broke off"])?;
    wait::until_true("the helper has ended", LIMIT, || helpers(&host).is_empty())?;
    host.start_agent()?;
    Ok(())
}

#[test]
fn a_stripped_static_server_has_addresses_for_names() -> Result<()> {
    let Some(busybox) = locate::program("busybox") else {
        return report::skip(
            "a_stripped_static_server_has_addresses_for_names",
            "busybox is not installed",
        );
    };
    let host = Host::with_service(SERVICE)?;
    let script = "busybox httpd -f -p 0.0.0.0:8080 & while :; do :; done";
    let line = [
        busybox.display().to_string(),
        "sh".to_owned(),
        "-c".to_owned(),
        script.to_owned(),
    ];
    host.upgrade("gen1", &line)?;
    let profile = Profile::take(&host, &["gen1", "--for", "2s"])?;
    let addressed = profile.percent(|profile, stack| {
        profile
            .functions(stack)
            .any(|frame| frame.name.starts_with("busybox+0x"))
    })?;
    report::figure(
        "profile: samples of a stripped static program with addresses, percent",
        format!("{addressed:.2}"),
    );
    ensure!(addressed > 90.0, "{addressed} %: {:?}", profile.frames);
    Ok(())
}

/// A server whose CPU time is code that it made itself; it writes down its pid and where that is.
const MAKES_CODE: &str = r#"
import ctypes, mmap, os, socket, sys, threading
m = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
m[:9] = b"\x48\x89\xf8\x48\xff\xc8\x75\xfb\xc3"
base = ctypes.addressof(ctypes.c_char.from_buffer(m))
count = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong)(base)
def burn():
    while True:
        count(5000000)
a = socket.socket()
a.setsockopt(1, 2, 1)
a.bind(("0.0.0.0", 8080))
a.listen(99)
open(sys.argv[1], "w").write(f"{os.getpid()} {base:x}")
threading.Thread(target=burn, daemon=True).start()
while True:
    a.accept()[0].close()
"#;

/// Ends with its scope: other tests' processes may have this number later.
struct Named(std::path::PathBuf);

impl Named {
    fn remove(&self) {
        drop(std::fs::remove_file(&self.0));
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.remove();
    }
}

#[test]
fn what_others_put_where_names_should_be_is_left_alone() -> Result<()> {
    let python = python::binary().context("python3 is not installed")?;
    let host = Host::with_service(SERVICE)?;
    let place = host.directory().join("place");
    let python = python.display().to_string();
    let place_named = place.display().to_string();
    let line = [python, "-c".into(), MAKES_CODE.into(), place_named].map(String::from);
    host.upgrade("gen1", &line)?;
    let place = std::fs::read_to_string(&place)?;
    let (pid, base) = place.split_once(' ').context("no place")?;
    let map = Named(format!("/tmp/perf-{pid}.map").into());
    let fifo = || Ok(mkfifo(&map.0, Mode::from_bits_truncate(0o666))?);
    let link = || Ok(std::os::unix::fs::symlink("/etc/passwd", &map.0)?);
    let large = || Ok(std::fs::File::create(&map.0)?.set_len(2 << 30)?);
    let anothers = || {
        std::fs::write(&map.0, format!("{base} 40 believed\n"))?;
        Ok(std::os::unix::fs::chown(&map.0, Some(65534), None)?)
    };
    let put: [(&dyn Fn() -> Result<()>, &str); 4] = [
        (&fifo, "not a regular file"),
        (&link, "not a regular file"),
        (&large, "2048 MiB"),
        (&anothers, "uid 65534"),
    ];
    for (put, said) in put {
        map.remove();
        put()?;
        let profile = Profile::take(&host, &["gen1", "--for", "1s"])?;
        let notes = &profile.notes;
        ensure!(notes.iter().any(|n| n.contains(said)), "{said}: {notes:?}");
        let named = profile.frames.iter().any(|f| f.name == "believed");
        ensure!(!named, "{:?}", profile.frames);
        ensure!(profile.own_memory_bytes < 150 << 20, "{profile:?}");
    }
    map.remove();
    let mut own = format!("zz\n{base} 40 ").into_bytes();
    own.extend(b"bad\xff\n");
    own.extend(format!("{base} 40 counts\n").into_bytes());
    std::fs::write(&map.0, own)?;
    let profile = Profile::take(&host, &["gen1", "--for", "1s"])?;
    let named = profile.frames.iter().any(|f| f.name == "counts");
    ensure!(named, "{:?} {:?}", profile.frames, profile.notes);
    Ok(())
}

#[test]
fn a_program_leads_to_no_file_of_its_users_choice() -> Result<()> {
    let Some(objcopy) = locate::program("objcopy") else {
        return report::skip(
            "a_program_leads_to_no_file_of_its_users_choice",
            "objcopy is not installed",
        );
    };
    let host = Host::with_service(SERVICE)?;
    let mut line = split::command("inside", &["--spin"])?;
    let program = host.directory().join("linked");
    let symbols = host.directory().join("symbols");
    std::fs::write(&symbols, "for its checksum")?;
    let first = line.first_mut().context("no program")?;
    let mut link = std::process::Command::new(objcopy);
    link.arg(format!("--add-gnu-debuglink={}", symbols.display()));
    let linked = command::run(link.arg(&*first).arg(&program), LIMIT)?;
    linked.expect_success()?;
    std::os::unix::fs::chown(&program, Some(65534), None)?;
    std::fs::remove_file(&symbols)?;
    mkfifo(&symbols, Mode::from_bits_truncate(0o666))?;
    *first = program.display().to_string();
    host.upgrade("gen1", &line)?;
    let profile = Profile::take(&host, &["gen1", "--for", "1s"])?;
    ensure!(profile.only()?.samples > 0, "{profile:?}");
    Ok(())
}
