//! Promise: a server's stdout and stderr may be opened anew by whoever it runs as, which empties nothing; and no server
//! waits for its log or dies of it: not while agent, keeper and logger are stopped, nor when they are killed.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    host::Host,
    load::{Load, Plan},
    mounts::{self, Tmpfs},
    report,
    servers::{Nginx, Plain, node, python},
    wait,
};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};

const LIMIT: Duration = Duration::from_secs(15);
const KEEPER: &str = "hotlb-keeper";
const LOGGER: &str = "hotlb-logger";

fn target(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn log_of(host: &Host, service: &str, generation: &str) -> PathBuf {
    let file = format!("state/output/{service}/{generation}.log");
    host.directory().join(file)
}

/// What a generation wrote, as far as it is kept.
fn kept(log: &Path) -> String {
    let files = [log.with_extension("log.1"), log.to_owned()];
    let texts = files.map(|file| fs::read(file).unwrap_or_default());
    String::from_utf8_lossy(&texts.concat()).into_owned()
}

/// The processes of this name.
fn named(host: &Host, name: &str) -> Result<Vec<Pid>> {
    let is_it = |pid: &Pid| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    };
    Ok(host.netns().pids()?.into_iter().filter(is_it).collect())
}

fn signal(pids: &[Pid], signal: Signal) -> Result<()> {
    for pid in pids {
        kill(*pid, signal).with_context(|| format!("{signal} to {pid}"))?;
    }
    Ok(())
}

/// A shell that does `first` and becomes a server.
fn after(host: &Host, generation: &str, first: &str) -> Result<Vec<String>> {
    let server = Plain::new(generation).listen("0.0.0.0:8080").command()?;
    let (program, arguments) = server.split_first().context("a command")?;
    let program = host.copy_of(Path::new(program))?;
    let line = format!(
        "{first}; exec {} {}",
        program.display(),
        arguments.join(" ")
    );
    Ok(["sh", "-c", &line].map(str::to_owned).to_vec())
}

fn expect_log(host: &Host, generation: &str, lines: &str) -> Result<()> {
    let log = log_of(host, "web", generation);
    let found = wait::until_true("the log is whole", LIMIT, || kept(&log).starts_with(lines));
    found.with_context(|| format!("{} is {:?}, wanted {lines:?}", log.display(), kept(&log)))
}

/// Each opens its output anew in another way, and none loses a line.
#[test]
fn whoever_serves_may_open_its_output_anew() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]\nuser = \"nobody\"")?;
    let again = "echo one; echo two >/dev/stderr; echo three; echo four >>/dev/stdout; \
                 exec 5>/proc/self/fd/2; echo five >&5; exec 1>&-; exec 1>/dev/stderr; echo six";
    host.upgrade("a", &after(&host, "a", again)?)?;
    expect_log(&host, "a", "one\ntwo\nthree\nfour\nfive\nsix\n")?;
    // What a server says before it fails is in the error, whole.
    let failing =
        "for i in 1 2 3 4 5 6 7; do echo line $i; done; echo why it failed >/dev/stderr; exit 3";
    host.try_deploy("b", &["sh", "-c", failing].map(str::to_owned))?
        .expect_code(1)?
        .expect_stderr(&["line 1", "line 7\n", "why it failed"])?;
    drop(host);

    // One that is root, and becomes somebody else by itself; what it says at its end is there too.
    // The loop below outlives its server, and is waited for.
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]\ndrain = { deadline = \"3s\" }")?;
    let other = "echo one; setpriv --reuid=65534 --clear-groups sh -c 'echo two >/dev/stderr; \
                 echo three >/dev/stdout'; echo four";
    host.upgrade("a", &after(&host, "a", other)?)?;
    expect_log(&host, "a", "one\ntwo\nthree\nfour\n")?;
    if let Some(python) = python::binary() {
        let script = "import logging as l; h = l.FileHandler(\"/dev/stdout\", \"w\"); \
                      l.getLogger().addHandler(h); l.error(\"one\"); l.error(\"two\")";
        let line = format!("{} -c '{script}'; echo three", python.display());
        host.upgrade("b", &after(&host, "b", &line)?)?;
        expect_log(&host, "b", "one\ntwo\nthree\n")?;
    }
    // Its file is removed: the next line is in a new one.
    let slow = "echo one; (while sleep 0.05; do echo more; done) & true";
    host.upgrade("c", &after(&host, "c", slow)?)?;
    expect_log(&host, "c", "one\nmore\n")?;
    fs::remove_file(log_of(&host, "web", "c"))?;
    expect_log(&host, "c", "more\nmore\n")?;
    // So are names: what the next logger would go by is there again.
    let pipes = host.directory().join("run/output");
    fs::remove_dir_all(&pipes)?;
    wait::until_true("the pipe has a name", LIMIT, || {
        pipes.join("web.c").exists()
    })?;
    signal(&named(&host, LOGGER)?, Signal::SIGKILL)?;
    let length = kept(&log_of(&host, "web", "c")).len();
    wait::until_true("its log goes on", LIMIT, || {
        kept(&log_of(&host, "web", "c")).len() > length + 20
    })?;
    host.ok(&["down"])?;
    ensure!(named(&host, LOGGER)?.is_empty(), "a logger runs on");
    ensure!(!pipes.exists(), "{} is there", pipes.display());
    Ok(())
}

/// nginx whose every request writes a line of `length` bytes.
fn nginx(host: &Host, generation: &str, port: u16, length: usize) -> Result<Vec<String>> {
    let command = Nginx::new(generation)
        .listen(&format!("0.0.0.0:{port}"))
        .command(host.directory())?;
    let prefix = host.directory().join(format!("nginx-{generation}"));
    let file = prefix.join("nginx.conf");
    let format = format!("log_format long '$request_id {}';", "x".repeat(length));
    let config = fs::read_to_string(&file)?
        .replace("user root;\n", "")
        .replace("error_log stderr", "error_log /dev/stderr")
        .replace(
            "access_log off;",
            &format!("{format}\n    access_log /dev/stdout long;"),
        );
    fs::write(file, config)?;
    Ok(command)
}

/// node likewise; its lines are numbered. `steadily`: not with its requests, but 10,000 a second.
fn numbering(port: u16, length: usize, steadily: bool) -> Result<Vec<String>> {
    let binary = node::binary().context("node is not installed")?;
    let (each_request, each_turn) = if steadily { (0, 100) } else { (1, 0) };
    let script = format!(
        "let n = 0; const rest = ' ' + 'x'.repeat({length}) + '\\n'; \
         const say = (lines) => {{ for (let i = 0; i < lines; i++) process.stdout.write(++n + rest); }}; \
         if ({each_turn}) setInterval(say, 10, {each_turn}); \
         require('http').createServer((request, response) => {{ say({each_request}); \
         response.setHeader('X-Generation', 'a'); response.end('a\\n'); }}).listen({port}, '0.0.0.0');"
    );
    let words = [&binary.display().to_string(), "-e", &script];
    Ok(words.map(str::to_owned).to_vec())
}

fn endless(port: u16) -> Plan {
    let plan = Plan::new(target(port)).workers(2).keep_alive();
    plan.max_requests(u64::MAX)
}

/// How long the readers are away: as long as this many requests take, with `HOTLB_FULL` a minute.
fn go_on(loads: &[&Load], requests: u64) -> Result<()> {
    let full = std::env::var_os("HOTLB_FULL").is_some();
    let began = Instant::now();
    while full && began.elapsed() < Duration::from_mins(1) {
        for load in loads {
            load.wait_more(250, LIMIT)?;
        }
    }
    for load in loads {
        load.wait_more(if full { 1 } else { requests }, LIMIT)?;
    }
    Ok(())
}

/// None is missing and none is there twice, from the first that is kept on.
fn expect_consecutive(text: &str) -> Result<u64> {
    let numbers = text.split('\n').filter_map(|line| line.split_once(' '));
    // The first line may have been cut where the file was turned over.
    let mut numbers = numbers.skip(1).map(|(number, _)| number.parse::<u64>());
    let mut last = numbers.next().context("no line is kept")??;
    for number in numbers {
        let number = number?;
        ensure!(number == last + 1, "{number} follows {last}");
        last = number;
    }
    Ok(last)
}

#[test]
fn nobody_waits_for_a_log_that_nobody_takes_up() -> Result<()> {
    let test = "nobody_waits_for_a_log_that_nobody_takes_up";
    if node::binary().is_none() {
        return report::skip(test, "node is not installed");
    }
    let full = std::env::var_os("HOTLB_FULL").is_some();
    // With tens of thousands of requests a second nginx writes some 1 MB/s then; a minute of 2 MB/s is all of the room.
    let (of_node, of_nginx, requests) = if full { (100, 1, 1) } else { (3900, 300, 4000) };
    let config = "[service.web]\nlisten = [\"0.0.0.0:8080\"]\n\
                  [service.other]\nlisten = [\"0.0.0.0:8081\"]\nuser = \"www-data\"\n";
    let mut host = Host::with_config(config)?;
    host.upgrade_of("web", "a", &numbering(8080, of_node, full)?)?;
    host.upgrade_of("other", "b", &nginx(&host, "b", 8081, of_nginx)?)?;
    let web = host.load(endless(8080))?;
    let other = host.load(endless(8081))?;
    let both = [&web, &other];
    for load in both {
        load.wait_more(200, LIMIT)?;
    }
    for how in [Signal::SIGSTOP, Signal::SIGKILL] {
        let logger = named(&host, LOGGER)?;
        ensure!(logger.len() == 1, "{} loggers run", logger.len());
        let mut others = named(&host, KEEPER)?;
        ensure!(others.len() == 2, "{} keepers run", others.len());
        others.push(host.agent()?.pid());
        signal(&others, how)?;
        signal(&logger, how)?;
        let began = Instant::now();
        let before = [&web, &other].map(|load| load.so_far().requests());
        go_on(&both, requests)?;
        let after = [&web, &other].map(|load| load.so_far().requests());
        let lengths = [("node", of_node), ("nginx", of_nginx + 34)];
        for ((name, length), (before, after)) in lengths.into_iter().zip(before.iter().zip(after)) {
            let lines = if full && name == "node" {
                began.elapsed().as_secs() * 10_000
            } else {
                after - before
            };
            let bytes = lines * length as u64;
            report::figure(
                &format!("output: bytes {name} wrote while nobody took them up, {how}"),
                format!("{bytes} in {:.1} s", began.elapsed().as_secs_f64()),
            );
        }
        if how == Signal::SIGSTOP {
            // The agent finds that its logger is stopped, and starts another.
            signal(&others, Signal::SIGCONT)?;
        } else {
            host.kill_agent()?;
            host.start_agent()?;
        }
        wait::until_true("another one logs", LIMIT, || {
            named(&host, LOGGER).is_ok_and(|now| now.len() == 1 && now != logger)
        })?;
    }
    host.ok(&["agent", "upgrade"])?;
    for load in both {
        load.wait_more(200, LIMIT)?;
    }
    let (web, other) = (web.stop()?, other.stop()?);
    for (name, outcome) in [("node", &web), ("nginx", &other)] {
        let line = format!(
            "{} requests, {} failed, {} slower than 250 ms, slowest {:?}",
            outcome.requests(),
            outcome.failed,
            outcome.slow,
            outcome.max
        );
        report::figure(&format!("output: {name}"), line);
    }
    web.expect_none_lost()?;
    other.expect_none_lost()?;
    let log = log_of(&host, "web", "a");
    if !full {
        let last = format!("\n{} ", web.requests());
        wait::until_true("the log has every request", LIMIT, || {
            kept(&log).contains(&last)
        })?;
    }
    expect_consecutive(&kept(&log))?;
    let log = log_of(&host, "other", "b");
    let lines = |text: &str| text.lines().filter(|line| line.ends_with('x')).count() as u64;
    let room = 2 * 15 * 1024 * 1024 / (of_nginx as u64 + 34);
    wait::until_true("the other log has them too", LIMIT, || {
        lines(&kept(&log)) >= other.requests().min(room / 2)
    })?;
    for service in host.status()?.services {
        let dropped = service
            .warnings
            .iter()
            .find(|line| line.contains("dropped"));
        ensure!(dropped.is_none(), "{dropped:?}");
    }
    host.ok(&["down"]).map(drop)
}

/// Writes 60 MB at once, when it may.
fn chatty(host: &Host) -> Result<Vec<String>> {
    let go = host.directory().join("go");
    let line = format!(
        "echo begun; (while [ ! -e {} ]; do sleep 0.05; done; head -c 60000000 /dev/zero | \
         tr '\\0' x; echo) & true",
        go.display()
    );
    after(host, "a", &line)
}

fn have_it_write(host: &Host) -> Result<()> {
    fs::write(host.directory().join("go"), "").context("let it write")
}

fn expect_said(host: &Host, why: &str) -> Result<()> {
    let mut warnings = Vec::new();
    let said = wait::until_true("it is said", LIMIT * 2, || {
        warnings = host.web().map(|web| web.warnings).unwrap_or_default();
        let mut lines = warnings.iter();
        lines.any(|line| line.contains("bytes of output were dropped") && line.contains(why))
    });
    said.with_context(|| format!("{warnings:#?}"))?;
    let metrics = host.ask_path(target(9464), "/metrics")?;
    let counted = metrics.body.lines().any(|line| {
        let count = line.strip_prefix("hotlb_output_dropped_bytes_total{service=\"web\"} ");
        count.is_some_and(|count| count.parse::<f64>().is_ok_and(|count| count > 0.0))
    });
    ensure!(counted, "{}", metrics.body);
    Ok(())
}

fn expect_apology(host: &Host, why: &str) -> Result<()> {
    let log = log_of(host, "web", "a");
    let line = format!("bytes of output were dropped here: {why}");
    wait::until_true("the file says where", LIMIT, || kept(&log).contains(&line))
}

const MEASURED: &str =
    "[agent]\nmetrics = \"127.0.0.1:9464\"\n[service.web]\nlisten = [\"0.0.0.0:8080\"]\n";

/// What a server writes last is in its file when it was stopped, also by a logger that comes after it.
#[test]
fn last_words_outlive_the_logger() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
    let server = |generation: &str| -> Result<Vec<String>> {
        let server = Plain::new(generation).listen("0.0.0.0:8080").command()?;
        let line = format!("{}; seq 2000", server.join(" "));
        Ok(["sh", "-c", &line].map(str::to_owned).to_vec())
    };
    let is_whole = |generation: &str| kept(&log_of(&host, "web", generation)).ends_with("\n2000\n");
    for (generation, how) in [("a", Signal::SIGKILL), ("b", Signal::SIGSTOP)] {
        host.deploy(generation, &server(generation)?)?;
        signal(&named(&host, LOGGER)?, how)?;
        host.ok(&["stop", generation])?;
        ensure!(
            is_whole(generation),
            "{generation}: it is told that it ended"
        );
    }
    host.deploy("c", &server("c")?)?;
    signal(&named(&host, LOGGER)?, Signal::SIGKILL)?;
    signal(&named(&host, "plain-server")?, Signal::SIGTERM)?;
    wait::until_true("what ended by itself has its last words", LIMIT, || {
        is_whole("c")
    })
}

/// The disk is full, then it hangs: the server goes on, the oldest is given up, counted and said.
#[test]
fn what_has_no_room_is_counted_and_said() -> Result<()> {
    mounts::in_private(|| {
        let mut host = Host::without_agent()?;
        host.write_config(MEASURED)?;
        let disk = Tmpfs::mount(&host.directory().join("state/output"), 40 * 1024)?;
        host.start_agent()?;
        disk.fill()?;
        host.upgrade("a", &chatty(&host)?)?;
        let load = host.load(Plan::new(target(8080)).workers(2))?;
        have_it_write(&host)?;
        expect_said(&host, "No space left on device")?;
        disk.free()?;
        expect_apology(&host, "No space left on device")?;
        load.stop()?.expect_none_lost()?;
        host.ok(&["down"]).map(drop)
    })
}

#[test]
fn a_disk_that_hangs_holds_nobody_up() -> Result<()> {
    let host = Host::with_config(MEASURED)?;
    host.upgrade("a", &chatty(&host)?)?;
    expect_log(&host, "a", "begun\n")?;
    // Whoever opens this waits, as for a disk that is gone.
    let log = log_of(&host, "web", "a");
    let hangs = log.with_extension("hangs");
    mkfifo(&hangs, Mode::S_IRWXU)?;
    fs::rename(&hangs, &log)?;
    let load = host.load(Plan::new(target(8080)).workers(2))?;
    have_it_write(&host)?;
    let began = Instant::now();
    expect_said(&host, "the disk does not accept it")?;
    report::figure(
        "output: a disk that hangs was said after",
        format!("{:?}", began.elapsed()),
    );
    // It is there again.
    let reader = File::open(&log)?;
    fs::remove_file(&log)?;
    drop(reader);
    expect_apology(&host, "the disk does not accept it")?;
    load.stop()?.expect_none_lost()?;
    host.ok(&["down"]).map(drop)
}
