//! Promise: a server that opens its listeners anew stays the one that serves: no client is led to another version.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{datagrams::Client, host::Host, servers::python, wait};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const LIMIT: Duration = Duration::from_secs(10);
/// Longest time of one request; a client that waits for the agent's next look waits up to a second.
const SLOWEST: Duration = Duration::from_millis(250);
const RELOADS: usize = 3;

/// Answers with its name; at SIGHUP it opens its listener anew, in the order that it is told, and
/// counts that in a file.
const SERVER: &str = r"
import os, signal, socket, sys, threading, time
name, order, count = sys.argv[1:4]
udp = order == 'udp'
def listen():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(('0.0.0.0', 8080))
    if not udp: s.listen(128)
    return s
now = [listen()]
def close(s):
    if udp:
        s.setblocking(False)
        try: # what waits in it would end with it
            while True: s.sendto(name.encode(), s.recvfrom(2048)[1])
        except OSError: pass
    else: s.shutdown(socket.SHUT_RDWR)
    s.close()
def reload(*_):
    former = now[0]
    if order == 'close-first':
        close(former)
        time.sleep(0.02)
        now[0] = listen()
    else:
        now[0] = listen()
        if udp: time.sleep(0.1)
        close(former)
    with open(count, 'a') as file: file.write('x')
signal.signal(signal.SIGHUP, reload)
def serve(c):
    try:
        c.recv(4096)
        body = name.encode()
        c.sendall(b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body))
    except OSError: pass
    finally: c.close()
while True:
    try:
        if udp:
            data, client = now[0].recvfrom(2048)
            now[0].sendto(name.encode(), client)
        else:
            client, _ = now[0].accept()
            threading.Thread(target=serve, args=(client,), daemon=True).start()
    except OSError: time.sleep(0.001)
";

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    /// gen2 is active, gen1 stands by.
    fn new(order: &str, listen: &str) -> Result<Self> {
        let host = Host::with_service(&format!("listen = [\"{listen}\"]"))?;
        let python = python::binary().context("no python3")?;
        for generation in ["gen1", "gen2"] {
            let count = host.directory().join(generation);
            let count = count.to_string_lossy().into_owned();
            let python = python.to_string_lossy().into_owned();
            let command = [&python, "-c", SERVER, generation, order, &count];
            host.upgrade(generation, &command.map(str::to_owned))?;
        }
        Ok(Self {
            host,
            target: "127.0.0.1:8080".parse()?,
        })
    }

    fn reloads(&self) -> usize {
        let count = self.host.directory().join("gen2");
        std::fs::read(count).map_or(0, |done| done.len())
    }

    /// Has the server reload, and asks until it has, and `more` times.
    fn reload(&self, pid: i32, more: usize, ask: impl Fn() -> Result<String>) -> Result<()> {
        let before = self.reloads();
        kill(Pid::from_raw(pid), Signal::SIGHUP)?;
        let began = Instant::now();
        let mut left = more;
        while left > 0 {
            let asked = Instant::now();
            let answer = ask()?;
            ensure!(answer == "gen2", "answered by {answer} in a reload of gen2");
            let took = asked.elapsed();
            ensure!(took < SLOWEST, "a client waited {took:?}");
            ensure!(began.elapsed() < LIMIT, "it does not reload");
            if self.reloads() > before {
                left -= 1;
            }
        }
        Ok(())
    }

    /// The same without clients: with the agent dead for less than half a second, whose handshake ends
    /// right after its listener waits for the next agent (G6).
    fn reload_unasked(&self, pid: i32) -> Result<()> {
        let before = self.reloads();
        kill(Pid::from_raw(pid), Signal::SIGHUP)?;
        wait::until_true("it has reloaded", LIMIT, || self.reloads() > before)
    }

    fn pid(&self) -> Result<i32> {
        self.host.generation("gen2")?.pid.context("no pid")
    }

    fn reloads_are_not_felt(&self, count: usize) -> Result<()> {
        let pid = self.pid()?;
        for _ in 0..count {
            self.reload(pid, 50, || self.host.ask(self.target))?;
        }
        Ok(())
    }
}

#[test]
fn a_listener_that_opens_before_the_former_one_closes() -> Result<()> {
    Scene::new("open-first", "0.0.0.0:8080")?.reloads_are_not_felt(RELOADS)
}

#[test]
fn a_listener_that_closes_before_the_next_one_opens() -> Result<()> {
    Scene::new("close-first", "0.0.0.0:8080")?.reloads_are_not_felt(RELOADS)
}

/// The kernel's programs find the new listener; once, for the next needs the agent's slot.
#[test]
fn without_an_agent_too() -> Result<()> {
    let mut scene = Scene::new("open-first", "0.0.0.0:8080")?;
    let pid = scene.pid()?;
    scene.host.kill_agent()?;
    scene.reload_unasked(pid)?;
    scene.host.expect_answers(scene.target, 50, "gen2")?;
    Ok(())
}

/// A listener that has no slot does not keep its generation from being dead.
#[test]
fn a_crash_after_a_reload_fails_over_at_once() -> Result<()> {
    let mut scene = Scene::new("open-first", "0.0.0.0:8080")?;
    let pid = scene.pid()?;
    scene.host.kill_agent()?;
    scene.reload_unasked(pid)?;
    scene.host.expect_answers(scene.target, 1, "gen2")?;
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    let dead = Duration::from_secs(1);
    wait::until_true("gen1 answers", dead, || {
        scene
            .host
            .ask(scene.target)
            .is_ok_and(|answer| answer == "gen1")
    })?;
    scene.host.expect_answers(scene.target, 20, "gen1")?;
    Ok(())
}

#[test]
fn a_udp_socket_that_opens_before_the_former_one_closes() -> Result<()> {
    let scene = Scene::new("udp", "udp://0.0.0.0:8080")?;
    let pid = scene.pid()?;
    let client = Client::new(scene.host.netns(), scene.target)?;
    for _ in 0..RELOADS {
        scene.reload(pid, 50, || client.ask())?;
    }
    Ok(())
}
