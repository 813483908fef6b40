//! Promise: the clients of a generation that drains leave by themselves, after a complete response. Kept connections
//! of unmodified HTTP/1.1 servers lose no request in an upgrade, and no byte of a body is changed.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use hotlb::{
    clock,
    datapath::{Declared, Pins, ServicePath},
    sys::{established, netns::Netns},
};
use hotlb_tests::{
    host::Host,
    http, locate, patience, polite, report,
    script::{self, Scene},
    servers::{Kind, Nginx, Plain, nginx},
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

/// The header is put in where a server leaves it out; the kernel's books of socket memory stay in order.
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
    ensure!(
        outcome
            .responses
            .get("inserted")
            .is_some_and(|&count| count >= 3 * 64),
        "{outcome:?}"
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
    host.deploy("gen2", &Plain::new("gen2").listen(TARGET).command()?)?;
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
            Ok(count) => got.extend(buffer.iter().take(count)),
        }
    }
}

/// How long a connection has been open is known while it is; one can be ended by itself.
#[test]
fn ages_and_ends() -> Result<()> {
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
    };
    let pins = Pins::new(host.bpffs(), "web");
    let (path, found) = ServicePath::open_or_create(pins, &host.cgroup()?, &declared)?;
    ensure!(found, "the agent's pins");
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

/// A kept connection of a client that reads whole responses.
struct Kept {
    stream: BufReader<TcpStream>,
}

impl Kept {
    fn open(host: &Host) -> Result<Self> {
        let target: SocketAddr = TARGET.parse()?;
        let stream = host.netns().run(|| TcpStream::connect(target))??;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self {
            stream: BufReader::with_capacity(1 << 16, stream),
        })
    }

    fn ask(&mut self, method: &str, path: &str) -> Result<()> {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n");
        Ok(self.stream.get_mut().write_all(request.as_bytes())?)
    }

    /// The head, but for the line that changes every second.
    fn head(&mut self) -> Result<String> {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            ensure!(
                self.stream.read_line(&mut line)? > 0,
                "it ended in the head"
            );
            if line == "\r\n" {
                return Ok(head);
            }
            if !line.starts_with("Date:") {
                head.push_str(&line);
            }
        }
    }

    /// The body behind such a head; `None` for the answer to HEAD.
    fn body(&mut self, head: &str) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        if let Some(length) = length {
            body.resize(length.parse()?, 0);
            self.stream.read_exact(&mut body)?;
            return Ok(body);
        }
        // Chunked: where the chunks end is the server's to choose, each time anew.
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16)?;
            let start = body.len();
            body.resize(start + length + 2, 0);
            let chunk = body.get_mut(start..).context("a chunk")?;
            self.stream.read_exact(chunk)?;
            ensure!(
                body.ends_with(b"\r\n"),
                "the chunk does not end where it says"
            );
            body.truncate(start + length);
            if length == 0 {
                break;
            }
        }
        Ok(body)
    }

    fn get(&mut self, path: &str) -> Result<(String, Vec<u8>)> {
        self.ask("GET", path)?;
        let head = self.head()?;
        let body = self.body(&head)?;
        Ok((head, body))
    }
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
         drain = { polite = \"on\", deadline = \"60s\", signal_after = \"60s\" }",
    )?;
    let files = [
        ("small.bin", 10),
        ("middle.bin", 1 << 20),
        ("big.bin", 64 << 20),
        ("text.txt", 1 << 20),
    ];
    let root = host.directory().join("files");
    std::fs::create_dir(&root)?;
    for (name, size) in files {
        std::fs::write(root.join(name), content(name, size))?;
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
        let mut client = Kept::open(&host)?;
        let path = format!("/files/{name}");
        references.push(client.get(&path)?);
        idle.push((path, client));
    }
    let mut by_head = Kept::open(&host)?;
    by_head.get("/files/small.bin")?;
    let mut under_way = Kept::open(&host)?;
    under_way.ask("GET", "/files/big.bin")?;
    let head_under_way = under_way.head()?;
    host.deploy("gen2", &nginx("gen2")?)?;
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    wait::until_true("all are asked to leave", LIMIT, || {
        host.web().is_ok_and(|web| web.polite.leaving == 6)
    })?;
    let (head, body) = references.get(2).context("the big file")?;
    ensure!(head_under_way == *head, "{head_under_way} is not {head}");
    expect_same("under way", &under_way.body(head)?, body)?;
    for ((path, client), (head, body)) in idle.iter_mut().zip(&references) {
        let (closing, same) = client.get(path)?;
        ensure!(
            closing == head.replace("keep-alive", "close     "),
            "{closing} from {head}"
        );
        expect_same(path, &same, body)?;
    }
    by_head.ask("HEAD", "/files/big.bin")?;
    let closing = by_head.head()?;
    ensure!(
        closing == head.replace("keep-alive", "close     "),
        "{closing} from {head}"
    );
    drop((idle, by_head, under_way));
    promote.finish(LIMIT)?.expect_success()?;
    Ok(())
}

/// Fails with where they differ.
fn expect_same(what: &str, got: &[u8], expected: &[u8]) -> Result<()> {
    let differs = got
        .iter()
        .zip(expected)
        .position(|(got, expected)| got != expected);
    let Some(at) = differs.or((got.len() != expected.len()).then(|| got.len().min(expected.len())))
    else {
        return Ok(());
    };
    let piece = got.get(at..(at + 32).min(got.len())).unwrap_or_default();
    let elsewhere = expected
        .windows(piece.len().max(1))
        .position(|window| window == piece);
    let wrong = got
        .iter()
        .zip(expected)
        .filter(|(got, expected)| got != expected)
        .count();
    anyhow::bail!(
        "{what}: {} bytes for {}, differ from byte {at} on ({wrong} bytes in all); what came there stands at {elsewhere:?}: {piece:?}",
        got.len(),
        expected.len()
    )
}

/// Bytes that do not repeat soon, or for a text, lines that do.
fn content(name: &str, size: usize) -> Vec<u8> {
    if name == "text.txt" {
        return b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"
            .iter()
            .copied()
            .cycle()
            .take(size)
            .collect();
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}
