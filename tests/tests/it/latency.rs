//! Promise: how long clients wait, in the accept queue and for an answer, is measured in the kernel for each
//! generation, whatever the server, and exactly as often as it happens.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    host::Host,
    http,
    load::{Load, Plan},
    patience, process, report,
    servers::{Nginx, Plain},
    status::Latency,
    wait,
    waiting::Waiting,
};
use nix::sys::signal::{self, Signal};

const LISTEN: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(20);

fn host(server: &Plain, keys: &str) -> Result<(Host, SocketAddr)> {
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]\n{keys}\n"))?;
    host.upgrade("gen1", &server.clone().listen(LISTEN).command()?)?;
    Ok((host, TARGET.parse()?))
}

/// What is measured of `gen1`, once it is `wanted`.
fn measured(host: &Host, wanted: impl Fn(&Latency) -> bool) -> Result<Latency> {
    wait::until_true("it is measured", LIMIT, || {
        host.generation("gen1").is_ok_and(|g| wanted(&g.latency))
    })
    .with_context(|| format!("{:?}", host.generation("gen1")))?;
    Ok(host.generation("gen1")?.latency)
}

/// Fails unless `found` is `wanted`, or up to 9.05 % and `more` above it.
fn expect_about(what: &str, found: Option<u64>, wanted: Duration, more: Duration) -> Result<()> {
    let found = Duration::from_micros(found.context("nothing measured")?);
    report::figure(
        what,
        format!("{found:?}, in truth {wanted:?} or a little more"),
    );
    ensure!(found >= wanted, "{what}: {found:?} is too short");
    ensure!(
        found <= patience::of(wanted.mul_f64(1.0906) + more),
        "{what}: {found:?} is too long"
    );
    Ok(())
}

#[test]
fn the_time_to_an_answer_is_the_server_s() -> Result<()> {
    let delay = Duration::from_millis(60);
    let server = Plain::new("gen1").option("--delay-ms", delay.as_millis());
    let (host, target) = host(&server, "")?;
    let before = host.generation("gen1")?.latency.service_time.count;
    let load = Load::start(host.netns(), Plan::new(target).max_requests(300))?;
    load.wait_for("300", LIMIT, |outcome| outcome.requests() >= 300)?;
    load.stop()?.expect_none_failed()?;
    let latency = measured(&host, |l| l.lifetime.count >= 300)?;
    let answers = latency.service_time.count - before;
    ensure!(answers == 300, "{answers} answers: {latency:?}");
    expect_about(
        "service time of a server that takes 60 ms, p50",
        latency.service_time.p50_us,
        delay,
        Duration::from_millis(15),
    )
}

#[test]
fn each_request_of_a_kept_connection_counts() -> Result<()> {
    let (host, target) = host(&Plain::new("gen1"), "")?;
    let before = host.generation("gen1")?.latency;
    let mut stream = host.netns().run(|| TcpStream::connect(target))??;
    for _ in 0..25 {
        stream.write_all(&http::request(target, "/", true))?;
        http::read_response_blocking(&mut stream)?;
    }
    let now = measured(&host, |l| {
        l.service_time.count >= before.service_time.count + 25
    })?;
    ensure!(
        now.service_time.count == before.service_time.count + 25,
        "{now:?}"
    );
    ensure!(
        now.queue_wait.count == before.queue_wait.count + 1,
        "{now:?}"
    );
    Ok(())
}

#[test]
fn the_wait_in_the_queue_is_measured() -> Result<()> {
    let (host, target) = host(&Plain::new("gen1"), "")?;
    let before = host.generation("gen1")?.latency.queue_wait.count;
    let server = host.generation("gen1")?.process()?;
    process::freeze(server)?;
    let began = Instant::now();
    let waiting = Waiting::open(host.netns(), target, 50)?;
    let opened = Instant::now();
    let pause = Duration::from_millis(400);
    wait::until_true("they have waited", LIMIT, || opened.elapsed() >= pause)?;
    signal::kill(server, Signal::SIGCONT)?;
    waiting.answers()?;
    let longest = began.elapsed();
    let latency = measured(&host, |l| l.queue_wait.count >= before + 50)?;
    expect_about(
        "wait in the queue of a server that was stopped for 400 ms, p99",
        latency.queue_wait.p99_us,
        pause,
        longest.saturating_sub(pause),
    )
}

#[test]
fn it_can_be_switched_off_and_on_again() -> Result<()> {
    let (mut host, target) = host(&Plain::new("gen1"), "latency = false")?;
    host.expect_answers(target, 20, "gen1")?;
    let off = measured(&host, |l| l.lifetime.count >= 20)?;
    ensure!(
        off.service_time.count == 0 && off.queue_wait.count == 0,
        "{off:?}"
    );
    host.kill_agent()?;
    host.write_config(&format!("[service.web]\nlisten = [\"{LISTEN}\"]\n"))?;
    host.start_agent()?;
    host.expect_answers(target, 20, "gen1")?;
    let on = measured(&host, |l| l.service_time.count >= 20)?;
    ensure!(on.service_time.count == 20, "{on:?}");
    // It goes on without an agent.
    host.kill_agent()?;
    host.expect_answers(target, 20, "gen1")?;
    host.start_agent()?;
    ensure!(
        measured(&host, |l| l.service_time.count >= 40)?
            .service_time
            .count
            == 40
    );
    Ok(())
}

#[test]
fn generations_are_kept_apart_and_nginx_is_measured_too() -> Result<()> {
    let (host, target) = host(&Plain::new("gen1").option("--delay-ms", 40), "")?;
    host.expect_answers(target, 20, "gen1")?;
    let nginx = Nginx::new("gen2")
        .listen(LISTEN)
        .command(host.directory())?;
    host.upgrade("gen2", &nginx)?;
    let before = host.generation("gen2")?.latency.service_time.count;
    host.expect_answers(target, 200, "gen2")?;
    let both = (
        host.generation("gen1")?.latency.service_time,
        host.generation("gen2")?.latency.service_time,
    );
    ensure!(both.1.count - before == 200, "{both:?}");
    ensure!(
        both.0.p50_us > Some(40_000) && both.1.p50_us < Some(20_000),
        "{both:?}"
    );
    report::figure(
        "service time of nginx, p50 and p99, us",
        format!("{:?} {:?}", both.1.p50_us, both.1.p99_us),
    );
    Ok(())
}
