//! Promise: the clients of a generation that drains leave by themselves, after a complete response. Kept connections
//! of unmodified HTTP/1.1 servers lose no request in an upgrade, and no byte of a body is changed.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    host::Host,
    locate, polite, report,
    script::{self, Scene},
    servers::{Kind, nginx},
    wait, wrk,
};

const TARGET: &str = "127.0.0.1:8080";
const CONTROL: &str = "127.0.0.1:9000";
const LIMIT: Duration = Duration::from_secs(10);

fn show(name: &str, outcome: &polite::Upgrades) {
    let longest = outcome.promotes.iter().max().copied().unwrap_or_default();
    report::figure(
        name,
        format!(
            "{} upgrades, {} requests, {} socket errors, {} non-2xx, longest promote {} ms",
            outcome.upgrades,
            outcome.clients.requests,
            outcome.clients.socket_errors,
            outcome.clients.bad_status,
            longest.as_millis()
        ),
    );
}

#[test]
fn kept_connections_of_nginx() -> Result<()> {
    if let Some(reason) = wrk::missing().or(nginx::binary().is_none().then_some("no nginx")) {
        return report::skip("polite: nginx under wrk", reason);
    }
    let polite = polite::upgrades(5, "auto")?;
    let blunt = polite::upgrades(5, "off")?;
    show("polite: nginx, 64 kept connections, polite drain", &polite);
    show("polite: nginx, 64 kept connections, signal alone", &blunt);
    ensure!(polite.clients.requests > 10_000, "{polite:?}");
    ensure!(
        polite.clients.socket_errors == 0 && polite.clients.bad_status == 0,
        "{polite:?}"
    );
    ensure!(
        blunt.clients.socket_errors > 0,
        "without it nothing fails here, so that this test shows nothing: {blunt:?}"
    );
    Ok(())
}

/// Every scene on a connection of its own, all at once.
#[test]
fn no_byte_of_a_body_changes() -> Result<()> {
    let scenes = script::scenes();
    let host = Host::with_service(
        "listen = [\"127.0.0.1:8080\"]\n\
         drain = { polite = \"on\", signal_after = \"30s\", deadline = \"1s\" }",
    )?;
    let server = locate::script_server()?.display().to_string();
    let line = [&server, "--listen", TARGET, "--control", CONTROL].map(ToOwned::to_owned);
    host.upgrade("gen1", &line)?;
    let target: SocketAddr = TARGET.parse()?;
    let mut clients = Vec::new();
    for scene in &scenes {
        let mut client = host.netns().run(|| TcpStream::connect(target))??;
        client.set_read_timeout(Some(Duration::from_secs(3)))?;
        let mut got = Vec::new();
        if let Some(request) = &scene.before {
            client.write_all(request)?;
            listen(scene.due(1), &mut client, &mut got);
        }
        clients.push((scene, client, got));
    }
    host.deploy(
        "gen2",
        &Kind::Plain
            .command(host.directory(), "gen2", 8080)
            .map(|mut line| {
                line.iter_mut()
                    .for_each(|word| *word = word.replace("0.0.0.0", "127.0.0.1"));
                line
            })?,
    )?;
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    let all = u64::try_from(clients.len())?;
    let mut last = None;
    wait::until_true("all are asked to leave", LIMIT, || {
        last = host.web().ok().map(|web| web.polite);
        last.as_ref().is_some_and(|polite| polite.leaving == all)
    })
    .with_context(|| format!("{all} connections, {last:?}\n{}", host.agent_log()))?;
    for (scene, client, got) in &mut clients {
        talk(scene, client, got)?;
    }
    drop(host.netns().run(|| TcpStream::connect(CONTROL))??);
    let mut wrong = Vec::new();
    for (scene, client, got) in &mut clients {
        let expected = scene.expected();
        listen(expected.len(), client, got);
        if *got != expected.as_bytes() {
            wrong.push(format!(
                "{}\n  expected {:?}\n  got      {:?}",
                scene.name,
                expected,
                String::from_utf8_lossy(got)
            ));
        }
    }
    let responses = host.web()?.polite.responses;
    ensure!(wrong.is_empty(), "{}\n{responses:?}", wrong.join("\n"));
    report::figure(
        "polite: scenes whose bytes arrived as they must",
        scenes.len(),
    );
    for outcome in [
        "rewritten",
        "inserted",
        "closing",
        "upgrade",
        "interim",
        "foreign",
        "unclear",
        "pipelined",
    ] {
        ensure!(
            responses.get(outcome).is_some_and(|&count| count > 0),
            "{outcome}: {responses:?}"
        );
    }
    ensure!(responses.get("failed") == Some(&0), "{responses:?}");
    // Who closes leaves the map at once.
    drop(clients);
    wait::until_true("nobody is asked any more", LIMIT, || {
        host.web().is_ok_and(|web| web.polite.leaving == 0)
    })?;
    promote.finish(LIMIT)?.expect_success()?;
    Ok(())
}

/// Says what the client says during the drain, and listens in between.
fn talk(scene: &Scene, client: &mut TcpStream, got: &mut Vec<u8>) -> Result<()> {
    for (number, said) in scene.after.iter().enumerate() {
        client.write_all(said)?;
        let spoken = usize::from(scene.before.is_some()) + number + 1;
        listen(scene.due(spoken), client, got);
    }
    Ok(())
}

/// Reads until so many bytes have come.
fn listen(wanted: usize, client: &mut TcpStream, got: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while got.len() < wanted {
        match client.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => got.extend(&buffer[..count]),
        }
    }
}
