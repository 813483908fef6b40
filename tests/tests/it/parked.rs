//! Promise: a server that cannot run twice is replaced without a refused or broken request: clients wait while one
//! instance ends and the next starts.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hotlb_tests::{history, host::Host, report};

const TARGET: &str = "127.0.0.1:8080";
const ETCD: &str = "/usr/bin/etcd";
/// One put at a time, no faster than this.
const LIMIT: Duration = Duration::from_secs(30);
const RESTARTS: usize = 5;

fn config(mode: &str) -> String {
    format!(
        "listen = [\"{TARGET}\"]\nmode = \"{mode}\"\nhealth = {{ http = \"/health\" }}\n\
         ready_timeout = \"20s\"\nkeep = \"10m\"\n"
    )
}

/// An etcd on the data directory all of them share.
fn etcd(directory: &Path) -> Vec<String> {
    let data = directory.join("etcd-data").display().to_string();
    let client = format!("http://{TARGET}");
    let peer = "http://127.0.0.1:2390";
    let words = [
        ETCD,
        "--data-dir",
        &data,
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
        "--listen-peer-urls",
        peer,
        "--initial-advertise-peer-urls",
        peer,
        "--initial-cluster",
        &format!("default={peer}"),
        "--log-level",
        "error",
    ];
    words.iter().map(|&word| word.to_owned()).collect()
}

fn upgrade(host: &Host, generation: &str) -> Result<()> {
    let run = host.try_upgrade(generation, &[], &etcd(host.directory()))?;
    run.expect_success().map(drop)
}

/// Puts, one after the other, each on a connection of its own.
struct Puts {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    acknowledged: u64,
    refused: u64,
    broken: Vec<String>,
    longest: Duration,
}

impl Puts {
    fn start(host: &Host) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let target: SocketAddr = TARGET.parse()?;
        let thread = host.netns().spawn("puts", move || {
            let mut told = Told::default();
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                match put(target, told.acknowledged) {
                    Ok(()) => told.acknowledged += 1,
                    Err(error) if error.to_string().contains("refused") => told.refused += 1,
                    Err(error) => told.broken.push(error.to_string()),
                }
                told.longest = told.longest.max(began.elapsed());
            }
            Ok(told)
        })?;
        Ok(Self { stop, thread })
    }

    fn finish(self) -> Result<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|panic| anyhow!("the puts panicked: {panic:?}"))?
    }
}

/// The key "k" gets the number as its value, in base 64 as etcd's gateway wants it.
fn put(target: SocketAddr, number: u64) -> Result<()> {
    let value = STANDARD.encode(format!("{number:012}"));
    let answer = ask(
        target,
        "/v3/kv/put",
        &format!("{{\"key\":\"aw==\",\"value\":\"{value}\"}}"),
    )?;
    ensure!(answer.contains("\"revision\""), "no revision: {answer}");
    Ok(())
}

fn ask(target: SocketAddr, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let length = body.len();
    stream.write_all(
        format!(
            "POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "answer: {answer:?}");
    Ok(answer)
}

fn is_installed() -> bool {
    PathBuf::from(ETCD).exists()
}

#[test]
fn etcd_is_restarted_under_puts() -> Result<()> {
    if !is_installed() {
        return report::skip("parked: etcd", "etcd is not installed");
    }
    let host = Host::with_service(&config("parked"))?;
    upgrade(&host, "gen1")?;
    let puts = Puts::start(&host)?;
    for number in 2..RESTARTS + 2 {
        upgrade(&host, &format!("gen{number}"))?;
    }
    let told = puts.finish()?;
    report::remark(format!(
        "etcd restarted {RESTARTS} times on one data directory, parked: {} puts, {} refused, {} \
         broken, the longest took {:?}",
        told.acknowledged,
        told.refused,
        told.broken.len(),
        told.longest
    ));
    ensure!(told.refused == 0 && told.broken.is_empty(), "{told:?}");
    ensure!(told.acknowledged > 50, "{told:?}");
    // What was acknowledged last is there.
    let target: SocketAddr = TARGET.parse()?;
    let range = host
        .netns()
        .run(|| ask(target, "/v3/kv/range", "{\"key\":\"aw==\"}"))??;
    let last = STANDARD.encode(format!("{:012}", told.acknowledged - 1));
    ensure!(range.contains(&last), "{last} is not in {range}");
    Ok(())
}

#[test]
fn auto_finds_out_that_etcd_cannot_run_twice() -> Result<()> {
    if !is_installed() {
        return report::skip("parked: auto", "etcd is not installed");
    }
    let mut host = Host::with_service(&config("auto"))?;
    upgrade(&host, "gen1")?;
    let puts = Puts::start(&host)?;
    upgrade(&host, "gen2")?;
    let told = history::last(&host)?.to_string();
    ensure!(
        told.contains("handed over parked"),
        "it does not say so: {told}"
    );
    host.kill_agent()?;
    host.start_agent()?;
    upgrade(&host, "gen3")?;
    let told = history::last(&host)?.to_string();
    ensure!(
        !told.contains("second instance"),
        "it is tried again: {told}"
    );
    let told = puts.finish()?;
    ensure!(told.refused == 0 && told.broken.is_empty(), "{told:?}");
    Ok(())
}

#[test]
fn a_parked_candidate_that_never_serves_is_replaced_by_the_former() -> Result<()> {
    if !is_installed() {
        return report::skip("parked: a bad candidate", "etcd is not installed");
    }
    let host = Host::with_service(&config("parked"))?;
    upgrade(&host, "gen1")?;
    let puts = Puts::start(&host)?;
    let run = host.hotlb(&["upgrade", "--generation", "gen2", "--", "/bin/false"])?;
    ensure!(run.code == 1, "{}", run.describe());
    let told = puts.finish()?;
    ensure!(told.refused == 0 && told.broken.is_empty(), "{told:?}");
    let web = host.web()?;
    ensure!(web.active.as_deref() == Some("gen1"), "{web:#?}");
    let target: SocketAddr = TARGET.parse()?;
    host.netns()
        .run(|| put(target, 0))?
        .context("gen1 serves again")
}
