//! Promise: a connection stays with the generation that accepted it until it ends: a server whose signal would cut its
//! clients is not signalled while they are there, before the deadline.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use hotlb_tests::{host::Host, report, wait};

const TARGET: &str = "127.0.0.1:8080";
const REDIS: &str = "/usr/bin/redis-server";
const LIMIT: Duration = Duration::from_secs(15);

/// A redis with data of its own.
fn redis(directory: &Path, generation: &str) -> Result<Vec<String>> {
    let data = directory.join(format!("redis-{generation}"));
    std::fs::create_dir(&data)?;
    let data = data.display().to_string();
    let words = [
        REDIS,
        "--port",
        "8080",
        "--bind",
        "127.0.0.1",
        "--dir",
        &data,
        "--save",
        "",
    ];
    Ok(words.iter().map(|&word| word.to_owned()).collect())
}

fn connect(host: &Host) -> Result<TcpStream> {
    let target: SocketAddr = TARGET.parse()?;
    let stream = host.netns().run(|| TcpStream::connect(target))??;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// One command, and the beginning of what is answered.
fn say(stream: &mut TcpStream, command: &str) -> Result<String> {
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut buffer = [0; 256];
    let count = stream.read(&mut buffer)?;
    ensure!(count > 0, "{command}: the connection was ended");
    Ok(String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).into_owned())
}

#[test]
fn a_client_of_redis_stays_with_its_generation() -> Result<()> {
    if !PathBuf::from(REDIS).exists() {
        return report::skip("long-lived: redis", "redis-server is not installed");
    }
    let host = Host::with_service(&format!(
        "listen = [\"{TARGET}\"]\ndrain = {{ signal_after = \"100ms\", deadline = \"60s\" }}\n\
         keep = \"0s\"\n"
    ))?;
    host.upgrade("gen1", &redis(host.directory(), "gen1")?)?;
    let mut first = connect(&host)?;
    ensure!(say(&mut first, "SET who gen1")? == "+OK\r\n");
    host.deploy("gen2", &redis(host.directory(), "gen2")?)?;
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    wait::until_true("gen2 is active", LIMIT, || {
        host.web()
            .is_ok_and(|web| web.active.as_deref() == Some("gen2"))
    })?;
    let mut second = connect(&host)?;
    ensure!(say(&mut second, "GET who")? == "$-1\r\n", "not gen2's data");
    // Far beyond the time after which a server is signalled that lets its clients finish.
    let drains = wait::until_true("never", Duration::from_secs(2), || {
        !host
            .generation("gen1")
            .is_ok_and(|gen1| gen1.state == "draining")
    });
    ensure!(drains.is_err(), "{:?}", host.generation("gen1"));
    for _ in 0..10 {
        ensure!(say(&mut first, "GET who")? == "$4\r\ngen1\r\n");
    }
    drop(first);
    promote.finish(LIMIT)?.expect_success()?;
    host.wait_state("gen1", &["stopped"])?;
    ensure!(say(&mut second, "PING")? == "+PONG\r\n");
    Ok(())
}
