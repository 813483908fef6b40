//! Promise: an active generation that takes nothing up is noticed, and keeps its clients; a draining one loses its flows.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    host::Host,
    process::freeze,
    servers::{CommandLine, Plain, Udp, python},
    wait,
    waiting::Waiting,
};

const LIMIT: Duration = Duration::from_secs(15);
const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]\n";

fn says(host: &Host, parts: &[&str]) -> Result<()> {
    wait::until_true(&format!("status says {parts:?}"), LIMIT, || {
        host.web().is_ok_and(|web| {
            let mut warnings = web.warnings.iter();
            warnings.any(|warning| parts.iter().all(|part| warning.contains(part)))
        })
    })
}

fn is_quiet(host: &Host) -> Result<()> {
    wait::until_true("status has no warning", LIMIT, || {
        host.web().is_ok_and(|web| web.unusual().is_empty())
    })
}

/// `gen2` is active, `gen1` stands by.
fn scene(second: &CommandLine) -> Result<Host> {
    let host = Host::with_service(SERVICE)?;
    host.upgrade(
        "gen1",
        &Plain::new("gen1").listen("0.0.0.0:8080").command()?,
    )?;
    host.upgrade("gen2", second)?;
    Ok(host)
}

fn waiters(host: &Host) -> Result<Waiting> {
    Waiting::open(host.netns(), "127.0.0.1:8080".parse()?, 3)
}

#[test]
fn a_stopped_server_is_noticed_and_keeps_its_clients() -> Result<()> {
    let host = scene(&Plain::new("gen2").listen("0.0.0.0:8080").command()?)?;
    let pid = host.generation("gen2")?.process()?;
    freeze(pid)?;
    says(&host, &["gen2 is stopped", "kill -CONT"])?;
    let waiting = waiters(&host)?;
    says(&host, &["gen2 hangs", "3 clients wait", "is stopped"])?;
    ensure!(host.web()?.active.as_deref() == Some("gen2"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT)?;
    waiting.expect_by("gen2")?;
    is_quiet(&host)
}

#[test]
fn a_server_that_is_dead_behind_a_helper_is_noticed() -> Result<()> {
    let python = python::binary().context("python3 is not installed")?;
    let script = "import os,socket,time\ns=socket.socket(); s.setsockopt(1,2,1); s.bind(('0.0.0.0',8080)); s.listen(9)\n\
                  if os.fork()==0: time.sleep(300)\n\
                  while True:\n    c,_=s.accept(); c.close()";
    let server = vec![
        python.display().to_string(),
        "-c".to_owned(),
        script.to_owned(),
    ];
    let host = scene(&server)?;
    let pid = host.generation("gen2")?.process()?;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    // Until then it may accept one of them.
    wait::until_true("the first process has ended", LIMIT, || {
        host.generation("gen2")
            .is_ok_and(|found| found.pid.is_some_and(|left| left != pid.as_raw()))
    })?;
    let waiting = waiters(&host)?;
    says(&host, &["gen2 hangs", "has ended", "is left"])?;
    host.hotlb(&["rollback", "--no-wait"])?.expect_success()?;
    waiting.expect_by("gen1")?;
    Ok(())
}

#[test]
fn flows_leave_a_draining_server_that_reads_nothing() -> Result<()> {
    let host = Host::with_service("listen = [\"udp://0.0.0.0:8080\"]\n")?;
    host.upgrade("gen1", &Udp::new("gen1", 8080).command()?)?;
    let socket = host
        .netns()
        .run(|| std::net::UdpSocket::bind("127.0.0.1:0"))??;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    socket.connect("127.0.0.1:8080")?;
    let answered = || {
        let mut answer = [0; 1500];
        socket.send(b"who").is_ok() && socket.recv(&mut answer).is_ok()
    };
    wait::until_true("gen1 answers", LIMIT, answered)?;
    freeze(host.generation("gen1")?.process()?)?;
    let mut unanswered = 0;
    // It is active.
    wait::until_true("status says that it hangs", LIMIT, || {
        unanswered += u32::from(!answered());
        host.web().is_ok_and(|web| {
            web.warnings
                .iter()
                .any(|w| w.contains("gen1 hangs: it read nothing"))
        })
    })?;
    ensure!(unanswered > 0);
    let mut words = vec!["upgrade", "--no-wait", "--generation", "gen2", "--"];
    let command = Udp::new("gen2", 8080).command()?;
    words.extend(command.iter().map(String::as_str));
    host.hotlb(&words)?.expect_success()?;
    wait::until_true("its client is answered by the next", LIMIT, answered)
}
