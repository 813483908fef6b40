//! Promise: what is asked before a promote is the candidate itself, however it starts; and it gets no client before it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    command::Run,
    host::Host,
    servers::{CommandLine, Haproxy, Nginx, Plain, python},
    wait,
};
use nix::sys::signal::{Signal, kill};

const LISTEN: &str = "listen = [\"0.0.0.0:8080\"]\nready_timeout = \"3s\"\n";
const TARGET: &str = "127.0.0.1:8080";
/// So many deploys of a server that goes into the background: one in six was not found.
const DEPLOYS: u32 = 8;

/// `gen1` is active.
fn host(keys: &str) -> Result<Host> {
    let host = Host::with_service(&format!("{LISTEN}{keys}"))?;
    host.upgrade(
        "gen1",
        &Plain::new("gen1").listen("0.0.0.0:8080").command()?,
    )?;
    Ok(host)
}

/// A server in python: `s` is a socket with the options of an ordinary one, `o` sets an option of it.
fn server(kind: &str, body: &str) -> Result<CommandLine> {
    let python = python::binary().context("python3 is not installed")?;
    let script = format!(
        "import socket,time\ns=socket.socket(socket.AF_INET,socket.{kind})\n\
         s.setsockopt(1,2,1)\no=s.setsockopt\nat=('0.0.0.0',8080)\n{body}\n"
    );
    Ok(vec![python.display().to_string(), "-c".to_owned(), script])
}

fn target() -> Result<SocketAddr> {
    Ok(TARGET.parse()?)
}

/// It must not get ready, for this reason, and clients go on to `gen1`.
fn refuses(host: &Host, server: &CommandLine, parts: &[&str]) -> Result<Run> {
    let run = host.try_deploy("gen2", server)?.expect_code(1)?;
    let run = run.expect_stderr(parts)?;
    let candidate = host.generation("gen2")?;
    ensure!(candidate.state == "failed", "{candidate:#?}");
    host.expect_answers(target()?, 20, "gen1")?;
    Ok(run)
}

fn is_found_each_time(command: impl Fn(&Host, &str) -> Result<CommandLine>) -> Result<()> {
    let host = Host::with_service(LISTEN)?;
    host.upgrade("gen0", &command(&host, "gen0")?)?;
    let serving = host.generation("gen0")?.process()?;
    ensure!(
        std::path::Path::new(&format!("/proc/{serving}")).exists(),
        "status names process {serving}, which has ended"
    );
    for number in 1..=DEPLOYS {
        let name = format!("gen{number}");
        host.deploy(&name, &command(&host, &name)?)?;
        host.hotlb(&["stop", &name])?.expect_success()?;
    }
    host.expect_answers(target()?, 20, "gen0")
}

#[test]
fn nginx_in_the_background_is_found_each_time() -> Result<()> {
    is_found_each_time(|host, name| {
        Nginx::new(name)
            .listen("0.0.0.0:8080")
            .workers(2)
            .daemon()
            .command(host.directory())
    })
}

#[test]
fn haproxy_in_the_background_is_found_each_time() -> Result<()> {
    is_found_each_time(|host, name| {
        let mut command = Haproxy::new(name).answering(host.directory(), "0.0.0.0:8080")?;
        for word in &mut command {
            if word == "-db" {
                "-D".clone_into(word);
            }
        }
        ensure!(command.iter().any(|word| word == "-D"), "{command:?}");
        Ok(command)
    })
}

/// Whose parent ends after its child has forked again: nobody who was seen with the listener has it.
#[test]
fn a_server_that_forks_twice_is_found_each_time() -> Result<()> {
    let fork = "import os\ns.bind(at); s.listen(9)\n\
                for pause in (0.002, 0):\n    \
                if os.fork(): time.sleep(pause); os._exit(0)\n\
                while True:\n    \
                c,_=s.accept(); c.recv(9999)\n    \
                c.sendall(b'HTTP/1.1 200 OK\\r\\nX-Generation: gen0\\r\\nConnection: close\\r\\nContent-Length: 5\\r\\n\\r\\ngen0\\n'); c.close()";
    is_found_each_time(|_, _| server("SOCK_STREAM", fork))
}

/// Its listener closes after the first question: what comes then waits for whoever is active, and must not be taken for
/// its answer.
#[test]
fn the_answer_of_another_generation_is_not_the_candidates() -> Result<()> {
    let host = host("health = { http = \"/\" }\n")?;
    let ill = "s.bind(at); s.listen(9); c,_=s.accept(); s.close()\n\
               c.recv(9999); c.sendall(b'HTTP/1.1 503 Ill\\r\\nContent-Length: 0\\r\\n\\r\\n'); c.close(); time.sleep(60)";
    refuses(
        &host,
        &server("SOCK_STREAM", ill)?,
        &["nothing listens on 0.0.0.0:8080"],
    )?;
    Ok(())
}

#[test]
fn what_another_generation_accepts_was_not_accepted_by_the_candidate() -> Result<()> {
    let host = host("")?;
    let closes = "s.bind(at); s.listen(9); time.sleep(0.3); s.close(); time.sleep(60)";
    refuses(
        &host,
        &server("SOCK_STREAM", closes)?,
        &["nothing listens on 0.0.0.0:8080"],
    )?;
    Ok(())
}

/// With `TCP_DEFER_ACCEPT` there is no connection to accept before there is data.
#[test]
fn a_server_that_defers_and_never_accepts_is_not_ready() -> Result<()> {
    let host = host("")?;
    let hangs = "s.bind(at); s.listen(9); o(6,9,5); time.sleep(60)";
    refuses(
        &host,
        &server("SOCK_STREAM", hangs)?,
        &["accepts no connection"],
    )?;
    Ok(())
}

#[test]
fn servers_that_defer_are_ready_all_the_same() -> Result<()> {
    for health in ["", "health = { http = \"/\" }\n"] {
        let host = host(health)?;
        let nginx = Nginx::new("gen2").listen("0.0.0.0:8080 deferred");
        host.upgrade("gen2", &nginx.command(host.directory())?)?;
        host.expect_answers(target()?, 20, "gen2")?;
    }
    Ok(())
}

/// It answers whom it does not like by an end at once: that is an answer too.
#[test]
fn a_server_that_hangs_up_at_once_is_ready() -> Result<()> {
    let host = host("")?;
    for (name, end) in [
        ("gen2", "c.close()"),
        (
            "gen3",
            "c.setsockopt(1,13,b'\\1\\0\\0\\0\\0\\0\\0\\0'); c.close()",
        ),
    ] {
        let rude = format!("s.bind(at); s.listen(9)\nwhile True:\n    c,_=s.accept(); {end}");
        host.deploy(name, &server("SOCK_STREAM", &rude)?)?;
    }
    Ok(())
}

#[test]
fn a_listener_that_is_bound_to_a_device_is_refused_by_its_name() -> Result<()> {
    let host = host("")?;
    for bound in [
        "o(1,25,b'lo\\0'); s.bind(at); s.listen(9)",
        "s.bind(at); s.listen(9); o(1,25,b'lo\\0')",
        "s.bind(at); s.listen(9); o(1,62,socket.if_nametoindex('lo'))",
    ] {
        let server = server("SOCK_STREAM", &format!("{bound}; time.sleep(60)"))?;
        let run = refuses(&host, &server, &["device lo", "SO_BINDTODEVICE"])?;
        ensure!(run.took < Duration::from_secs(2), "{}", run.describe());
    }
    Ok(())
}

#[test]
fn a_udp_socket_that_is_bound_to_a_device_is_refused_too() -> Result<()> {
    let host = Host::with_service("listen = [\"udp://0.0.0.0:8080\"]\nready_timeout = \"3s\"")?;
    for (name, bound) in [
        ("gen1", "o(1,25,b'lo\\0'); s.bind(at)"),
        ("gen2", "s.bind(at); o(1,25,b'lo\\0')"),
    ] {
        let server = server("SOCK_DGRAM", &format!("{bound}; time.sleep(60)"))?;
        host.try_deploy(name, &server)?
            .expect_code(1)?
            .expect_stderr(&["device lo"])?;
    }
    Ok(())
}

/// Whoever wants a device after the deploy stays in the group, and may be promoted.
#[test]
fn a_candidate_gets_no_device_later() -> Result<()> {
    let host = host("")?;
    let done = host.directory().join("refused");
    let later = format!(
        "import signal\ns.bind(at); s.listen(9)\n\
         def later(*a):\n    \
         try: o(1,25,b'lo\\0')\n    \
         except PermissionError: open('{}','w')\n\
         signal.signal(signal.SIGHUP, later)\n\
         while True:\n    \
         c,_=s.accept(); c.recv(9999)\n    \
         c.sendall(b'HTTP/1.1 200 OK\\r\\nX-Generation: gen2\\r\\nConnection: close\\r\\nContent-Length: 5\\r\\n\\r\\ngen2\\n'); c.close()",
        done.display()
    );
    host.deploy("gen2", &server("SOCK_STREAM", &later)?)?;
    kill(host.generation("gen2")?.process()?, Signal::SIGHUP)?;
    wait::until_true("it is refused", Duration::from_secs(10), || done.exists())?;
    host.expect_answers(target()?, 20, "gen1")?;
    host.promote("gen2")?;
    host.expect_answers(target()?, 20, "gen2")
}
