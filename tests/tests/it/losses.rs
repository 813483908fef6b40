//! Promise: what a client did not get is counted in the kernel, by what happened to it: nothing in a good run, and in a
//! broken one what the clients count themselves.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use hotlb_tests::{
    cgroups,
    exposition::{Exposition, OPENMETRICS},
    failure::Failure,
    held::{Ending, Held},
    history,
    host::Host,
    http::Response,
    load::{Load, Plan},
    process, report,
    servers::{Kind, Nginx, Plain},
    status::Losses,
    wait,
    waiting::Waiting,
};
use nix::sys::signal::{self, Signal};

const LISTEN: &str = "0.0.0.0:8080";
const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(15);

fn host(keys: &str) -> Result<(Host, SocketAddr)> {
    let host = Host::with_service(&format!("listen = [\"{LISTEN}\"]\n{keys}\n"))?;
    Ok((host, TARGET.parse()?))
}

/// What the service's generations lost so far, all together.
fn lost(host: &Host) -> Result<Losses> {
    let generations = host.web()?.generations;
    let each = generations.iter().map(|g| g.connections.lost);
    Ok(each.fold(Losses::default(), Losses::plus))
}

/// Waits until so many are counted: the kernel ends some connections a little after their client has seen the end.
fn expect_lost(host: &Host, what: &str, wanted: Losses) -> Result<()> {
    let same = wait::until_true(what, LIMIT, || lost(host).is_ok_and(|lost| lost == wanted));
    let found = lost(host)?;
    ensure!(same.is_ok(), "{what}: counted {found:?}, not {wanted:?}");
    report::figure(&format!("losses, {what}"), format!("{found:?}"));
    Ok(())
}

fn failed(endings: &[Ending]) -> u64 {
    endings.iter().filter(|e| e.result.is_err()).count() as u64
}

#[test]
fn a_good_run_loses_nothing() -> Result<()> {
    let (host, target) = host("")?;
    for turn in 1..=6 {
        let generation = format!("gen{turn}");
        let server = if turn % 2 == 0 {
            Kind::Plain.command(host.directory(), &generation, target.port())?
        } else {
            Nginx::new(&generation)
                .listen(LISTEN)
                .command(host.directory())?
        };
        host.upgrade(&generation, &server)?;
        let load = Load::start(host.netns(), Plan::new(target).max_requests(1_000))?;
        load.wait_for("a thousand", LIMIT, |outcome| outcome.requests() >= 1_000)?;
        load.stop()?.expect_none_failed()?;
    }
    expect_lost(&host, "six upgrades", Losses::default())
}

#[test]
fn requests_of_a_killed_server_are_counted_as_their_clients_count() -> Result<()> {
    let (host, target) = host("")?;
    host.upgrade("gen1", &Plain::new("gen1").listen(LISTEN).command()?)?;
    let held = Held::open(host.netns(), target, vec![Duration::from_mins(1); 23])?;
    // Connected, and not a byte sent: the end of such a one is in order.
    let silent = Waiting::silent(host.netns(), target, 5)?;
    cgroups::kill(&cgroups::of(host.generation("gen1")?.process()?)?)?;
    let endings = held.finish()?;
    wait::until_true("all end", LIMIT, || silent.all_ended())?;
    let wanted = Losses {
        unanswered: failed(&endings),
        ..Losses::default()
    };
    ensure!(wanted.unanswered == 23, "{endings:?}");
    expect_lost(&host, "a server killed with 23 requests", wanted)
}

#[test]
fn a_queue_that_nobody_inherits_is_counted() -> Result<()> {
    let (mut host, target) = host("")?;
    host.upgrade("gen1", &Plain::new("gen1").listen(LISTEN).command()?)?;
    let server = host.generation("gen1")?.process()?;
    process::freeze(server)?;
    let waiting = Waiting::open(host.netns(), target, 30)?;
    // Without parking listeners there is nobody whom the kernel could give the queue to.
    let keeper = host.keeper()?.context("no keeper")?;
    host.kill_agent()?;
    signal::kill(keeper, Signal::SIGKILL)?;
    wait::until_true("the keeper is gone", LIMIT, || {
        signal::kill(keeper, None).is_err()
    })?;
    cgroups::kill(&cgroups::of(server)?)?;
    let ends = waiting.finish();
    let reset = |end: &Result<Response, Failure>| matches!(end, Err(Failure::Reset { .. }));
    let queued = ends.iter().filter(|end| reset(end)).count() as u64;
    ensure!(queued == 30, "{ends:?}");
    host.start_agent()?;
    let wanted = Losses {
        queued,
        ..Losses::default()
    };
    expect_lost(&host, "a queue of 30 that nobody inherits", wanted)
}

#[test]
fn refused_clients_are_counted_as_they_count_themselves() -> Result<()> {
    let (mut host, target) = host("")?;
    let elsewhere = host.sibling()?;
    host.upgrade("gen1", &Plain::new("gen1").listen(LISTEN).command()?)?;
    let refused = |host: &Host, target: SocketAddr, count: usize| {
        host.netns().run(|| {
            let connect = |_| TcpStream::connect(target);
            let results = (0..count).map(connect);
            let refused = |result: &std::io::Result<TcpStream>| {
                let kind = result.as_ref().err().map(std::io::Error::kind);
                kind == Some(std::io::ErrorKind::ConnectionRefused)
            };
            results.filter(refused).count() as u64
        })
    };
    // Neither another port nor the same one in another network namespace is the service's.
    ensure!(refused(&host, "127.0.0.1:8081".parse()?, 7)? == 7);
    ensure!(refused(&elsewhere, target, 11)? == 11);
    expect_lost(&host, "others refused", Losses::default())?;
    // Nobody listens: no generation, no parking listener, and no agent to make one.
    let server = host.generation("gen1")?.process()?;
    let keeper = host.keeper()?.context("no keeper")?;
    host.kill_agent()?;
    signal::kill(keeper, Signal::SIGKILL)?;
    cgroups::kill(&cgroups::of(server)?)?;
    let mut counted = 0;
    wait::until_true("nobody listens", LIMIT, || {
        refused(&host, target, 1).is_ok_and(|count| {
            counted += count;
            count == 1
        })
    })?;
    counted += refused(&host, target, 40)?;
    ensure!(counted > 40, "{counted}");
    host.start_agent()?;
    let wanted = Losses {
        refused: counted,
        ..Losses::default()
    };
    expect_lost(&host, "clients refused by nobody", wanted)?;
    let scrape = Exposition::of(&host, OPENMETRICS)?;
    let labels = ["loss=\"refused\""];
    let metric = scrape.value("hotlb_service_connections_lost_total", &labels)?;
    ensure!(metric.to_string() == counted.to_string(), "{}", scrape.text);
    Ok(())
}

#[test]
fn a_deadline_of_zero_is_counted_as_the_clients_count() -> Result<()> {
    let (host, target) =
        host("drain = { polite = \"off\", signal_after = \"0s\", deadline = \"0s\" }")?;
    host.upgrade("gen1", &Plain::new("gen1").listen(LISTEN).command()?)?;
    host.deploy(
        "gen2",
        &Kind::Plain.command(host.directory(), "gen2", target.port())?,
    )?;
    let held = Held::open(host.netns(), target, vec![Duration::from_mins(1); 17])?;
    host.ok(&["promote", "gen2"])?;
    let endings = held.finish()?;
    ensure!(
        endings
            .iter()
            .all(|e| matches!(e.result, Err(Failure::Closed { received: 0 }))),
        "{endings:?}"
    );
    let wanted = Losses {
        unanswered: failed(&endings),
        ..Losses::default()
    };
    expect_lost(&host, "a deadline of zero with 17 requests", wanted)
}

#[test]
fn a_rollout_tells_what_it_lost() -> Result<()> {
    let (host, target) =
        host("drain = { polite = \"off\", signal_after = \"0s\", deadline = \"0s\" }")?;
    host.upgrade("gen1", &Plain::new("gen1").listen(LISTEN).command()?)?;
    let server = Kind::Plain.command(host.directory(), "gen2", target.port())?;
    host.deploy("gen2", &server)?;
    let held = Held::open(host.netns(), target, vec![Duration::from_mins(1); 9])?;
    host.ok(&["promote", "gen2"])?;
    let cut = failed(&held.finish()?);
    let told = history::last(&host)?;
    let lost = history::records(&told)
        .into_iter()
        .find(|record| history::text(record, "/kind") == Some("lost"))
        .context("no losses in the history")?;
    ensure!(
        lost.pointer("/lost/unanswered") == Some(&cut.into()),
        "{lost}"
    );
    let wanted = format!("lost {cut} connections: {cut} unanswered");
    let text = last_told(&host)?;
    ensure!(text.contains(&wanted), "{text}");
    // The next one cuts nobody, and its losses are its own.
    host.ok(&["rollback"])?;
    let text = last_told(&host)?;
    ensure!(text.contains("lost no connections"), "{text}");
    Ok(())
}

/// The newest rollout as people read it.
fn last_told(host: &Host) -> Result<String> {
    let told = history::last(host)?;
    let id = history::text(&told, "/id").context("no id")?;
    Ok(host.ok(&["history", "show", id])?.stdout)
}

#[test]
fn a_full_accept_queue_is_counted() -> Result<()> {
    let (host, target) = host("")?;
    host.upgrade("gen1", &Plain::new("gen1").listen(LISTEN).command()?)?;
    let before = dropped(&host)?;
    ensure!(before == 0, "{before} dropped before anything happened");
    let listeners = host.generation("gen1")?.listeners;
    let backlog = listeners.first().context("no listener")?.backlog;
    process::freeze(host.generation("gen1")?.process()?)?;
    // As many as its queue takes, and some whose handshakes are dropped until they give up.
    let fits = Waiting::open(host.netns(), target, usize::try_from(backlog)? + 1)?;
    let more = host.netns().spawn("more", move || {
        let connect = |_| TcpStream::connect_timeout(&target, Duration::from_millis(300));
        Ok((0..5).map(connect).filter(Result::is_err).count())
    })?;
    let gave_up = more.join().map_err(|_panic| anyhow!("it panicked"))??;
    let counted = dropped(&host)?;
    report::figure(
        "a full accept queue",
        format!("{gave_up} clients gave up, {counted} handshakes dropped"),
    );
    ensure!(
        gave_up > 0 && counted >= gave_up as u64,
        "{gave_up}, {counted}"
    );
    drop(fits);
    Ok(())
}

/// Handshakes dropped by the listeners of `gen1`.
fn dropped(host: &Host) -> Result<u64> {
    let listeners = host.generation("gen1")?.listeners;
    Ok(listeners.iter().map(|listener| listener.dropped).sum())
}
