//! Promise: a server is told to end by the signal that its kind understands, whatever it was started through; one of
//! which it is not known that it finishes keeps its connections until the deadline, and what a signal cut is said.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    held::{Ending, Held},
    history,
    host::Host,
    locate, report,
    servers::{Nginx, Plain, nginx, node, python},
    wait,
};
use serde_json::Value;

const LISTEN: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(20);
/// Longer than `signal_after` is usually.
const SLOW: Duration = Duration::from_millis(3_500);

/// A server in Python, as there are many: MODE is what it does on SIGTERM.
const SERVER: &str = include_str!("../../src/servers/ending.py");

fn script(host: &Host, mode: &str) -> Result<Option<Vec<String>>> {
    let Some(python) = python::binary() else {
        report::skip("told to end", "python3 is not installed")?;
        return Ok(None);
    };
    let path = host.directory().join("server.py");
    std::fs::write(&path, SERVER)?;
    let words = [
        &python.display().to_string(),
        &path.display().to_string(),
        mode,
    ];
    Ok(Some(words.map(str::to_owned).to_vec()))
}

fn plain(name: &str) -> Result<Vec<String>> {
    Plain::new(name).listen(LISTEN).command()
}

fn hold(host: &Host, count: usize, length: Duration) -> Result<Held> {
    let target: SocketAddr = TARGET.parse()?;
    Held::open(host.netns(), target, vec![length; count])
}

/// Fails unless all got their answers whole.
fn expect_whole(endings: &[Ending]) -> Result<()> {
    let lost: Vec<_> = endings.iter().filter(|e| e.result.is_err()).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} lost: {lost:?}",
        lost.len(),
        endings.len()
    );
    Ok(())
}

/// What `status` says of how a generation is told to end.
fn ending(host: &Host, generation: &str) -> Result<Value> {
    let run = host.ok(&["status", "--output", "json"])?;
    let status: Value = serde_json::from_str(&run.stdout)?;
    let all = status.pointer("/services/0/generations");
    let mut all = all.and_then(Value::as_array).context("none")?.iter();
    let found = all.find(|g| g.get("name").and_then(Value::as_str) == Some(generation));
    Ok(found
        .and_then(|g| g.get("ending"))
        .cloned()
        .unwrap_or_default())
}

fn expect_ending(host: &Host, generation: &str, signal: &str, effect: &str) -> Result<()> {
    let told = ending(host, generation)?;
    let said = |key: &str| told.get(key).and_then(Value::as_str);
    ensure!(
        said("signal") == Some(signal) && said("effect") == Some(effect),
        "{signal}, {effect} expected: {told}"
    );
    Ok(())
}

/// The command line, through a shell that waits for it.
fn behind_a_shell(line: &[String]) -> Vec<String> {
    let mut words: Vec<String> = ["sh", "-c", "\"$@\"; true", "sh"]
        .map(str::to_owned)
        .to_vec();
    words.extend_from_slice(line);
    words
}

/// nginx with answers of a few seconds: it passes `/hold` on.
fn slow_nginx(host: &Host, name: &str) -> Result<Vec<String>> {
    Nginx::new(name)
        .listen(LISTEN)
        .holding("127.0.0.1:9100")
        .command(host.directory())
}

/// `wrap` makes the command line of the generation that is told.
fn nginx_finishes(wrap: impl Fn(&Host, Vec<String>) -> Result<Vec<String>>) -> Result<()> {
    if nginx::binary().is_none() {
        return report::skip("told to end: nginx", "nginx is not installed");
    }
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]"))?;
    let _behind = host.start_beside(&Plain::new("behind").listen("127.0.0.1:9100").command()?)?;
    let line = wrap(&host, slow_nginx(&host, "gen1")?)?;
    host.upgrade("gen1", &line)?;
    expect_ending(&host, "gen1", "SIGQUIT", "finishes")?;
    let held = hold(&host, 3, SLOW)?;
    let began = Instant::now();
    host.upgrade("gen2", &plain("gen2")?)?;
    report::figure(
        "told to end: a drain of nginx",
        format!("{:?}", began.elapsed()),
    );
    expect_whole(&held.finish()?)
}

#[test]
fn nginx_behind_a_shell_finishes() -> Result<()> {
    nginx_finishes(|_, line| Ok(behind_a_shell(&line)))
}

#[test]
fn nginx_under_another_name_finishes() -> Result<()> {
    nginx_finishes(|host, line| {
        let program = PathBuf::from(line.first().context("no program")?);
        let other = host.directory().join("nginx-debug");
        std::fs::copy(program, &other)?;
        let mut line = line;
        line.splice(..1, [other.display().to_string()]);
        Ok(line)
    })
}

/// Three requests that take longer than `signal_after`, over an upgrade of a server that catches SIGTERM and ends at once.
fn waits_for_its_deadline(host: &Host, line: &[String]) -> Result<()> {
    host.upgrade("gen1", line)?;
    expect_ending(host, "gen1", "SIGTERM", "unknown")?;
    let held = hold(host, 3, SLOW)?;
    host.upgrade("gen2", &plain("gen2")?)?;
    expect_whole(&held.finish()?)?;
    let lost = host.generation("gen1")?.connections.lost;
    ensure!(lost.unanswered == 0, "{lost:?}");
    // Nobody was left: it was not told at all.
    ensure!(
        host.generation("gen1")?.state == "standby",
        "{:?}",
        host.generation("gen1")
    );
    Ok(())
}

#[test]
fn node_without_a_handler_keeps_its_clients() -> Result<()> {
    let Some(node) = node::binary() else {
        return report::skip("told to end: node", "node is not installed");
    };
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]"))?;
    let program = "require('http').createServer((q, a) => { \
                   const ms = (/ms=(\\d+)/.exec(q.url) || [0, 0])[1]; \
                   setTimeout(() => a.end('ok'), +ms); }).listen(8080, '0.0.0.0')";
    let line = [&node.display().to_string(), "-e", program].map(str::to_owned);
    waits_for_its_deadline(&host, &line)
}

#[test]
fn a_script_that_ends_at_once_keeps_its_clients() -> Result<()> {
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]"))?;
    match script(&host, "cuts")? {
        Some(line) => waits_for_its_deadline(&host, &line),
        None => Ok(()),
    }
}

#[test]
fn go_without_a_handler_keeps_its_clients() -> Result<()> {
    let Some(go) = locate::program("go") else {
        return report::skip("told to end: go", "go is not installed");
    };
    let host = Host::with_service("listen = [\"[::]:8080\"]")?;
    let server = built_by_go(&host, &go)?;
    host.upgrade("gen1", &[server.display().to_string()])?;
    expect_ending(&host, "gen1", "SIGTERM", "unknown")
}

/// A server as Go's own documentation has it.
fn built_by_go(host: &Host, go: &Path) -> Result<PathBuf> {
    let source = host.directory().join("server.go");
    let binary = host.directory().join("goserver");
    std::fs::write(
        &source,
        "package main\nimport \"net/http\"\nfunc main() {\n\
         http.HandleFunc(\"/\", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(\"ok\\n\")) })\n\
         http.ListenAndServe(\":8080\", nil)\n}\n",
    )?;
    let mut build = std::process::Command::new(go);
    build.args(["build", "-o"]).arg(&binary).arg(&source);
    let built = build
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .output()?;
    ensure!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Ok(binary)
}

/// A server that is stopped with requests open, and finishes them: next time it is told early.
#[test]
fn who_was_seen_to_finish_is_told_early() -> Result<()> {
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]"))?;
    let Some(line) = script(&host, "finishes")? else {
        return Ok(());
    };
    host.upgrade("gen1", &line)?;
    expect_ending(&host, "gen1", "SIGTERM", "unknown")?;
    let held = hold(&host, 2, Duration::from_millis(700))?;
    let parked = host.start_hotlb(&["stop", "--park", "gen1"])?;
    // Its clients wait for its end; the stop waits for its clients, for a while.
    expect_whole(&held.finish()?)?;
    parked.finish(LIMIT)?.expect_success()?;
    // Nothing was left when it was told, so nothing is known. Once more, without the patience.
    host.upgrade("gen2", &line)?;
    expect_ending(&host, "gen2", "SIGTERM", "unknown")?;
    let held = hold(&host, 2, Duration::from_millis(1_500))?;
    host.deploy("gen3", &line)?;
    let promote = host.start_hotlb(&["promote", "gen3"])?;
    wait::until_true("gen3 is active", LIMIT, || {
        host.web()
            .is_ok_and(|web| web.active.as_deref() == Some("gen3"))
    })?;
    host.ok(&["stop", "gen2"])?;
    promote.finish(LIMIT)?.expect_success()?;
    expect_whole(&held.finish()?)?;
    expect_ending(&host, "gen3", "SIGTERM", "finishes")?;
    // Two seconds are over when it is told now, and the rest of the thirty is not waited for.
    let held = hold(&host, 1, SLOW)?;
    host.deploy("gen4", &plain("gen4")?)?;
    let promote = host.start_hotlb(&["promote", "gen4"])?;
    wait::until_true("gen3 is told", LIMIT, || {
        ending(&host, "gen3").is_ok_and(|told| !told["signalled_ms_ago"].is_null())
    })?;
    expect_whole(&held.finish()?)?;
    promote.finish(LIMIT)?.expect_success().map(drop)
}

/// Nobody knows what it does on its signal: it is told at the deadline, and who gets an answer in
/// the moments after that is not cut before it.
#[test]
fn who_is_told_at_the_deadline_may_finish() -> Result<()> {
    let deadline = Duration::from_secs(2);
    let config = format!("listen = [\"{LISTEN}\"]\ndrain = {{ deadline = \"2s\" }}");
    let host = Host::with_service(&config)?;
    let Some(line) = script(&host, "finishes")? else {
        return Ok(());
    };
    host.upgrade("gen1", &line)?;
    host.deploy("gen2", &line)?;
    let target: SocketAddr = TARGET.parse()?;
    let lengths = (0..40).map(|n| deadline + Duration::from_millis(10 * n));
    let held = Held::open(host.netns(), target, lengths.collect())?;
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    wait::until_true("gen2 is active", LIMIT, || {
        host.web()
            .is_ok_and(|web| web.active.as_deref() == Some("gen2"))
    })?;
    // Not before this, for the drain had begun.
    let over = Instant::now() + deadline;
    let endings = held.finish()?;
    promote.finish(LIMIT)?.expect_success()?;
    let whole = |e: &&Ending| e.result.is_ok() && e.ended > over;
    let late = endings.iter().filter(whole).count();
    report::figure(
        "told at the deadline: answers of the moments after it",
        late,
    );
    ensure!(late > 0, "{endings:?}");
    Ok(())
}

/// What a signal cut is said with the key to set, and the next generation of the program keeps its clients; also when
/// another agent runs by then.
#[test]
fn what_a_signal_cut_is_said_and_remembered() -> Result<()> {
    let mut host = Host::with_service(&format!(
        "listen = [\"{LISTEN}\"]\ndrain = {{ signal_after = \"500ms\" }}"
    ))?;
    let Some(line) = script(&host, "cuts")? else {
        return Ok(());
    };
    host.upgrade("gen1", &line)?;
    let held = hold(&host, 3, SLOW)?;
    host.deploy("gen2", &line)?;
    let upgrade = host.promote("gen2")?;
    let cut = held.finish()?.iter().filter(|e| e.result.is_err()).count();
    ensure!(cut == 3, "the operator said 500ms, but {cut} of 3 were cut");
    let said = "SIGTERM cut 3 connections";
    ensure!(upgrade.describe().contains(said), "{}", upgrade.describe());
    let told = history::last(&host)?.to_string();
    ensure!(
        told.contains(said) && told.contains("drain.signal_after"),
        "{told}"
    );
    let status = host.ok(&["status"])?;
    ensure!(status.stdout.contains(said), "{}", status.describe());
    host.kill_agent()?;
    host.start_agent()?;
    expect_ending(&host, "gen2", "SIGTERM", "cuts")?;
    let held = hold(&host, 3, SLOW)?;
    host.upgrade("gen3", &plain("gen3")?)?;
    expect_whole(&held.finish()?)?;
    let now = host.ok(&["status"])?;
    ensure!(now.stdout.contains(said), "{}", now.describe());
    Ok(())
}

/// The output of a generation that was stopped, and how long that took.
fn stopped(keys: &str, mode: &str, wrap: bool) -> Result<Option<(String, Duration)>> {
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]\n{keys}"))?;
    let Some(line) = script(&host, mode)? else {
        return Ok(None);
    };
    let line = if wrap { behind_a_shell(&line) } else { line };
    host.upgrade("gen1", &line)?;
    host.upgrade("gen2", &plain("gen2")?)?;
    let began = Instant::now();
    host.ok(&["stop", "gen1"])?;
    let took = began.elapsed();
    let output = std::fs::read_to_string(host.generation("gen1")?.output)?;
    Ok(Some((output, took)))
}

#[test]
fn a_server_behind_a_shell_is_told() -> Result<()> {
    let Some((output, took)) = stopped("", "cuts", true)? else {
        return Ok(());
    };
    ensure!(
        output.contains("told cuts") && took < Duration::from_secs(5),
        "{took:?}: {output}"
    );
    Ok(())
}

/// A master that ends at once, and a worker that serves on.
#[test]
fn who_serves_on_is_told_too() -> Result<()> {
    let Some((output, took)) = stopped("", "leaves", false)? else {
        return Ok(());
    };
    let told = output.matches("told leaves").count();
    ensure!(
        told == 2 && took < Duration::from_secs(5),
        "{took:?}: {output}"
    );
    Ok(())
}

/// A data store that needs longer for its last save than what is left after the deadline: it is not killed, and its next
/// generation has everything.
#[test]
fn a_data_store_saves_what_it_has() -> Result<()> {
    const KEYS: usize = 400;
    let Some(redis) = locate::program("redis-server") else {
        return report::skip("told to end: redis", "redis-server is not installed");
    };
    let host = Host::with_service(&format!(
        "listen = [\"{TARGET}\"]\nmode = \"parked\"\n\
         drain = {{ signal_after = \"200ms\", deadline = \"500ms\" }}"
    ))?;
    let data = host.directory().display().to_string();
    // 10 ms for each key: four seconds for all.
    let words = [
        &redis.display().to_string(),
        "--port",
        "8080",
        "--bind",
        "127.0.0.1",
        "--dir",
        &data,
        "--save",
        "3600 1",
        "--rdb-key-save-delay",
        "10000",
    ];
    let line = words.map(str::to_owned);
    host.upgrade("gen1", &line)?;
    expect_ending(&host, "gen1", "SIGTERM", "cuts")?;
    let mut client = host.netns().run(|| TcpStream::connect(TARGET))??;
    client.set_read_timeout(Some(LIMIT))?;
    for number in 0..KEYS {
        client.write_all(format!("SET key{number} value\r\n").as_bytes())?;
        let mut answer = [0; 5];
        client.read_exact(&mut answer)?;
        ensure!(&answer == b"+OK\r\n", "{answer:?}");
    }
    drop(client);
    let mut arguments = vec!["upgrade", "--generation", "gen2", "--"];
    arguments.extend(line.iter().map(String::as_str));
    let upgrade = host.start_hotlb(&arguments)?;
    wait::until_true("it saves", LIMIT, || {
        host.generation("gen1")
            .is_ok_and(|g| g.drain.is_some_and(|d| d.step == "saving"))
    })?;
    upgrade.finish(Duration::from_mins(1))?.expect_success()?;
    let mut client = host.netns().run(|| TcpStream::connect(TARGET))??;
    client.set_read_timeout(Some(LIMIT))?;
    client.write_all(b"DBSIZE\r\n")?;
    let mut answer = [0; 6];
    client.read_exact(&mut answer)?;
    let size = String::from_utf8_lossy(&answer).into_owned();
    ensure!(
        size.starts_with(&format!(":{KEYS}\r")),
        "{size:?} of {KEYS} keys"
    );
    Ok(())
}

/// A UDP server whose client goes on sending is told before the deadline, while it still has its flows.
#[test]
fn a_udp_server_says_goodbye() -> Result<()> {
    let Some(python) = python::binary() else {
        return report::skip("told to end: udp", "python3 is not installed");
    };
    let host =
        Host::with_service("listen = [\"udp://127.0.0.1:8080\"]\ndrain = { deadline = \"4s\" }")?;
    let program = "import os, signal, socket, sys\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 8080)); peers = set()\n\
        def told(*a):\n    [s.sendto(b'bye', p) for p in peers]; os._exit(0)\n\
        signal.signal(signal.SIGTERM, told)\n\
        while True:\n    d, p = s.recvfrom(99); peers.add(p); s.sendto(sys.argv[1].encode(), p)\n";
    let line = |name: &str| [&python.display().to_string(), "-c", program, name].map(str::to_owned);
    host.upgrade("gen1", &line("one"))?;
    let client = host.netns().run(|| UdpSocket::bind("127.0.0.1:0"))??;
    client.connect(TARGET)?;
    client.set_read_timeout(Some(Duration::from_millis(200)))?;
    let heard = || {
        client.send(b"?").ok()?;
        let mut buffer = [0; 16];
        let count = client.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(buffer.get(..count)?).into_owned())
    };
    wait::until_true("gen1 answers", LIMIT, || heard().as_deref() == Some("one"))?;
    host.deploy("gen2", &line("two"))?;
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    wait::until_true("it says goodbye", LIMIT, || {
        heard().as_deref() == Some("bye")
    })?;
    promote.finish(LIMIT)?.expect_success()?;
    // And the next one answers.
    wait::until_true("gen2 answers", LIMIT, || heard().as_deref() == Some("two"))
}

/// Connections that have processes of their own are not told after their master.
#[test]
fn a_process_for_each_connection_finishes() -> Result<()> {
    let keys = "drain = { signal_after = \"200ms\" }";
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]\n{keys}"))?;
    let Some(line) = script(&host, "forks")? else {
        return Ok(());
    };
    host.upgrade("gen1", &line)?;
    let held = hold(&host, 3, Duration::from_secs(2))?;
    host.upgrade("gen2", &plain("gen2")?)?;
    expect_whole(&held.finish()?)
}
