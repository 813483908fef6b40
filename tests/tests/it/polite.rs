//! Promise: the clients of a generation that drains leave by themselves, after a complete response. Kept connections
//! of unmodified HTTP/1.1 servers lose no request in an upgrade, and no byte of a body is changed.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use hotlb::{
    clock,
    datapath::{Declared, Former, Pins, Renewal, ServicePath},
    sys::{established, netns::Netns},
};
use hotlb_tests::{
    alone,
    host::Host,
    http,
    kept::{Kept, content, expect_same},
    locate,
    netns::ip,
    patience,
    polite::{self, Way, attached},
    report,
    script::{self, Scene},
    servers::{Kind, Nginx, Plain, nginx},
    wait, wrk,
};
use nix::net::if_::if_nametoindex;

const TARGET: &str = "127.0.0.1:8080";
const CONTROL: &str = "127.0.0.1:9000";
const LIMIT: Duration = Duration::from_secs(10);

fn show(name: &str, outcome: &polite::Upgrades) {
    let longest = outcome.promotes.iter().max().copied().unwrap_or_default();
    report::figure(
        name,
        format!(
            "{} upgrades, {} requests, {} socket errors, {} non-2xx, longest promote {} ms, {:?}",
            outcome.promotes.len(),
            outcome.clients.requests,
            outcome.clients.socket_errors,
            outcome.clients.bad_status,
            longest.as_millis(),
            outcome.responses,
        ),
    );
}

#[test]
fn kept_connections_of_nginx() -> Result<()> {
    if let Some(reason) = wrk::missing().or(nginx::binary().is_none().then_some("no nginx")) {
        return report::skip("polite: nginx under wrk", reason);
    }
    let polite = polite::upgrades(Kind::Nginx, "auto", 5, Duration::ZERO)?;
    let blunt = polite::upgrades(Kind::Nginx, "off", 5, Duration::ZERO)?;
    show("polite: nginx, 64 kept connections, polite drain", &polite);
    show("polite: nginx, 64 kept connections, signal alone", &blunt);
    ensure!(
        polite.clients.requests > patience::requests(10_000),
        "{polite:?}"
    );
    if !polite.way.asks() {
        ensure!(
            polite.clients.bad_status == 0 && polite.responses.is_empty(),
            "{polite:?}"
        );
        return Ok(());
    }
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

/// The header is put in where a server leaves it out, and the kernel's books of socket memory stay in order; or, where
/// clients are asked by packets, such responses are left alone.
#[test]
fn kept_connections_without_the_header() -> Result<()> {
    if let Some(reason) = wrk::missing() {
        return report::skip("polite: a server without Connection headers", reason);
    }
    let outcome = polite::upgrades(Kind::PlainBare, "auto", 3, Duration::ZERO)?;
    show(
        "polite: no Connection header, 64 kept connections",
        &outcome,
    );
    ensure!(
        outcome.clients.socket_errors == 0 && outcome.clients.bad_status == 0,
        "{outcome:?}"
    );
    let dealt_with = match outcome.way {
        Way::Messages => "inserted",
        Way::Packets => "absent",
        Way::Nobody => {
            ensure!(outcome.responses.is_empty(), "{outcome:?}");
            return Ok(());
        }
    };
    let counted = outcome.responses.get(dealt_with).copied();
    ensure!(counted >= Some(3 * 64), "{outcome:?}");
    Ok(())
}

/// Every scene on a connection of its own, all at once.
#[test]
fn no_byte_of_a_body_changes() -> Result<()> {
    let host = Host::with_service(
        "listen = [\"127.0.0.1:8080\"]\n\
         drain = { signal_after = \"30s\", deadline = \"1s\" }",
    )?;
    let way = polite::way(&host.web()?.polite)?;
    let scenes = script::scenes().into_iter();
    let scenes: Vec<Scene> = match way {
        Way::Messages => scenes.collect(),
        Way::Packets => scenes.map(Scene::of_same_length).collect(),
        Way::Nobody => scenes.map(Scene::left_alone).collect(),
    };
    let asked = way.asks();
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
    host.deploy("gen2", &Plain::new("gen2").listen(TARGET).command()?)?;
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    let all = if asked { clients.len() as u64 } else { 0 };
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
        if way == Way::Packets {
            "absent"
        } else {
            "inserted"
        },
        "closing",
        "upgrade",
        "interim",
        "foreign",
        "unclear",
        "pipelined",
    ] {
        let counted = responses.get(outcome).is_some_and(|&count| count > 0);
        ensure!(counted == asked, "{outcome}: {responses:?}");
    }
    ensure!(
        responses.get("failed").copied().unwrap_or_default() == 0,
        "{responses:?}"
    );
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
            Ok(count) => got.extend(buffer.iter().take(count)),
        }
    }
}

/// How long a connection has been open is known while it is; one can be ended by itself.
#[test]
fn ages_and_ends() -> Result<()> {
    // What a service opens beside its own maps and programs stays with the process.
    alone::run(ages_are_known_and_one_is_ended)
}

fn ages_are_known_and_one_is_ended() -> Result<()> {
    let host = Host::with_service("listen = [\"127.0.0.1:8080\"]")?;
    host.upgrade("gen1", &Plain::new("gen1").listen(TARGET).command()?)?;
    let target: SocketAddr = TARGET.parse()?;
    let before = clock::since_boot();
    let clients = host
        .netns()
        .run(|| [TcpStream::connect(target), TcpStream::connect(target)])?;
    let [mut first, mut second] = clients;
    let (first, second) = (
        first.as_mut().ok().context("first")?,
        second.as_mut().ok().context("second")?,
    );
    let connections = host
        .netns()
        .run(|| established::at_port(&Netns::own(), target.port()))??;
    let of = |client: &TcpStream| {
        let peer = client.local_addr().ok();
        connections
            .iter()
            .find(|connection| Some(connection.peer) == peer)
            .context("not listed")
    };
    let (ended, kept) = (of(first)?, of(second)?);
    let declared = Declared {
        addresses: vec![target],
        datagrams: None,
        uid: 0,
        undeclared: 0,
        steered_by: None,
    };
    let pins = Pins::new(host.bpffs(), "web");
    let (path, _writer) =
        ServicePath::open_or_create(pins, &host.cgroup()?, &declared, Former::Kept)?;
    ensure!(*path.renewal() == Renewal::Found, "the agent's pins");
    for connection in [ended, kept] {
        let age = path.age(connection.cookie).context("no age")?;
        ensure!(age <= clock::since_boot().saturating_sub(before), "{age:?}");
    }
    host.netns()
        .run(|| established::destroy(&Netns::own(), ended))??;
    ensure!(first.read(&mut [0]).is_err(), "it was not reset");
    second.write_all(&http::request(target, "/", false))?;
    let mut answer = String::new();
    second.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

/// Files by sendfile, with and without gzip: byte for byte, whether they were on their way when the drain began or
/// asked for afterwards.
#[test]
fn whole_files() -> Result<()> {
    if nginx::binary().is_none() {
        return report::skip("polite: whole files", "nginx is not installed");
    }
    let host = Host::with_service(
        "listen = [\"127.0.0.1:8080\"]\n\
         drain = { deadline = \"60s\", signal_after = \"60s\" }",
    )?;
    let asked = polite::way(&host.web()?.polite)?.asks();
    let closing_of = |head: &str| {
        if asked {
            head.replace("keep-alive", "close     ")
        } else {
            head.to_owned()
        }
    };
    let files = [
        ("small.bin", 10),
        ("middle.bin", 1 << 20),
        ("big.bin", 64 << 20),
        ("text.txt", 1 << 20),
    ];
    let target: SocketAddr = TARGET.parse()?;
    let root = host.directory().join("files");
    fs::create_dir(&root)?;
    for (name, size) in files {
        fs::write(root.join(name), content(name, size))?;
    }
    let nginx = |name: &str| {
        Nginx::new(name)
            .listen(TARGET)
            .files(&root)
            .command(host.directory())
    };
    host.upgrade("gen1", &nginx("gen1")?)?;
    let mut references = Vec::new();
    let mut idle = Vec::new();
    for (name, _) in files {
        let mut client = Kept::open(host.netns(), target)?;
        let path = format!("/files/{name}");
        references.push(client.get(&path, 0)?);
        idle.push((path, client));
    }
    let mut by_head = Kept::open(host.netns(), target)?;
    by_head.get("/files/small.bin", 0)?;
    let mut under_way = Kept::open(host.netns(), target)?;
    under_way.ask("GET", "/files/big.bin", 0)?;
    let head_under_way = under_way.head()?;
    host.deploy("gen2", &nginx("gen2")?)?;
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    wait::until_true("all are asked to leave", LIMIT, || {
        host.web()
            .is_ok_and(|web| web.polite.leaving == if asked { 6 } else { 0 })
    })?;
    let big = references.get(2).context("the big file")?;
    let head = &big.head;
    ensure!(head_under_way == *head, "{head_under_way} is not {head}");
    expect_same("under way", &under_way.body(head)?, &big.body)?;
    for ((path, client), reference) in idle.iter_mut().zip(&references) {
        let got = client.get(path, 0)?;
        let (closing, head) = (got.head, &reference.head);
        ensure!(closing == closing_of(head), "{closing} from {head}");
        expect_same(path, &got.body, &reference.body)?;
    }
    by_head.ask("HEAD", "/files/big.bin", 0)?;
    let closing = by_head.head()?;
    ensure!(closing == closing_of(head), "{closing} from {head}");
    drop((idle, by_head, under_way));
    promote.finish(LIMIT)?.expect_success()?;
    Ok(())
}

/// Each server that says `keep-alive` has its idle clients asked in their next response, long heads or short.
#[test]
fn idle_clients_are_asked_in_their_next_response() -> Result<()> {
    let target: SocketAddr = TARGET.parse()?;
    for kind in [Kind::Nginx, Kind::Node, Kind::Plain] {
        if let Some(reason) = kind.missing() {
            report::skip("polite: idle clients", reason)?;
            continue;
        }
        let host = Host::with_service(
            "listen = [\"0.0.0.0:8080\"]\n\
             drain = { deadline = \"60s\", signal_after = \"60s\" }",
        )?;
        let asked = polite::way(&host.web()?.polite)?.asks();
        host.upgrade("gen1", &kind.command(host.directory(), "gen1", 8080)?)?;
        let mut clients = Vec::new();
        for cookie in [0, 100, 2000, 7000] {
            let mut client = Kept::open(host.netns(), target)?;
            client.get("/", 0)?;
            clients.push((cookie, client));
        }
        host.deploy("gen2", &kind.command(host.directory(), "gen2", 8080)?)?;
        let promote = host.start_hotlb(&["promote", "gen2"])?;
        leaving(&host, if asked { clients.len() as u64 } else { 0 })?;
        let mut leave = 0;
        for (cookie, client) in &mut clients {
            let answer = client.get("/", *cookie);
            let answer = answer.with_context(|| format!("{}, {cookie} bytes", kind.name()))?;
            ensure!(answer.text().contains("gen1"), "{answer:?}");
            leave += usize::from(answer.asks_to_leave());
        }
        report::figure(
            &format!("polite: idle clients of {} that were asked", kind.name()),
            format!("{leave} of {}", clients.len()),
        );
        ensure!(
            leave == if asked { clients.len() } else { 0 },
            "{leave} of {}: {:?}",
            kind.name(),
            host.web()?.polite
        );
        drop(clients);
        promote.finish(LIMIT)?.expect_success()?;
    }
    Ok(())
}

fn leaving(host: &Host, count: u64) -> Result<()> {
    wait::until_true("all are asked to leave", LIMIT, || {
        host.web().is_ok_and(|web| web.polite.leaving == count)
    })
    .with_context(|| host.agent_log())
}

/// Where clients are asked by packets: on each device, also those that come during the drain, and on none before and
/// afterwards, nor when the agent is killed.
#[test]
fn devices_are_followed_and_left() -> Result<()> {
    let mut host = Host::with_service(
        "listen = [\"0.0.0.0:8080\"]\n\
         drain = { deadline = \"60s\", signal_after = \"60s\" }",
    )?;
    let way = polite::way(&host.web()?.polite)?;
    if way != Way::Packets {
        report::figure("polite: devices are not needed here", format!("{way:?}"));
        return Ok(());
    }
    let beyond = host.netns().sibling()?;
    let names = [host.netns().name().to_owned(), beyond.name().to_owned()];
    let names = names.each_ref().map(String::as_str);
    for (name, address) in names.into_iter().zip(["10.77.0.1/32", "10.77.0.2/32"]) {
        ip(&["-n", name, "addr", "add", address, "dev", "lo"])?;
    }
    bridge(names, "first")?;
    host.upgrade(
        "gen1",
        &Plain::new("gen1").listen("0.0.0.0:8080").command()?,
    )?;
    let mut clients = Vec::new();
    for (netns, target) in [
        (host.netns(), TARGET),
        (host.netns(), TARGET),
        (&beyond, "10.77.0.1:8080"),
    ] {
        let mut client = Kept::open(netns, target.parse()?)?;
        client.get("/", 0)?;
        clients.push(client);
    }
    let agent = host.agent()?.pid();
    ensure!(attached(agent)?.is_empty(), "before the drain");
    host.deploy(
        "gen2",
        &Plain::new("gen2").listen("0.0.0.0:8080").command()?,
    )?;
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    leaving(&host, 3)?;
    let [near, later, far] = clients.as_mut_slice() else {
        anyhow::bail!("three clients");
    };
    ensure!(near.get("/", 0)?.asks_to_leave(), "by lo");
    ip(&["-n", host.netns().name(), "link", "del", "first"])?;
    bridge(names, "second")?;
    let index = host.netns().run(|| if_nametoindex("second"))??;
    wait::until_true("the new device is followed", LIMIT, || {
        attached(agent).is_ok_and(|found| found.contains(&index))
    })?;
    ensure!(far.get("/", 0)?.asks_to_leave(), "by a device that came");
    ensure!(attached(agent)?.len() == 2, "lo and the second");
    host.kill_agent()?;
    drop(promote);
    ensure!(!later.get("/", 2000)?.asks_to_leave(), "nobody asks");
    host.start_agent()?;
    leaving(&host, 3)?;
    ensure!(later.get("/", 2000)?.asks_to_leave(), "by the next agent");
    let agent = host.agent()?.pid();
    ensure!(!attached(agent)?.is_empty(), "during the drain");
    drop(clients);
    wait::until_true("nothing is attached after the drain", LIMIT, || {
        attached(agent).is_ok_and(|found| found.is_empty())
    })
}

/// Has both ends be reached by a pair of devices with this name.
fn bridge(names: [&str; 2], device: &str) -> Result<()> {
    let [here, there] = names;
    ip(&[
        "-n", here, "link", "add", device, "type", "veth", "peer", "name", device, "netns", there,
    ])?;
    for name in names {
        ip(&["-n", name, "link", "set", device, "up"])?;
    }
    let ends = [
        (here, "10.77.0.2/32", "10.77.0.1"),
        (there, "10.77.0.1/32", "10.77.0.2"),
    ];
    for (name, other, own) in ends {
        ip(&[
            "-n", name, "route", "replace", other, "dev", device, "src", own,
        ])?;
    }
    Ok(())
}
