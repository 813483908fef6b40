//! Promise: a UDP client stays with its generation until it is idle, whatever is promoted meanwhile; new clients go by
//! the steering word; a drain waits for flows.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    datagrams::{Client, Reply},
    dns::{PORT, deploy, host, status, target, upgrade},
    host::Host,
    servers::Udp,
    wait,
};

/// How many flows there are now; `status` says how many there were a moment ago.
fn listed(host: &Host) -> Result<u64> {
    let flows = host.ok(&["flows", "--output", "json"])?;
    let flows: serde_json::Value = serde_json::from_str(&flows.stdout)?;
    let total = flows.get("total").and_then(serde_json::Value::as_u64);
    total.with_context(|| format!("{flows}"))
}

#[test]
fn without_flows_every_datagram_goes_by_the_word() -> Result<()> {
    let host = host("flow = \"none\"")?;
    upgrade(&host, "gen1")?;
    let client = Client::new(host.netns(), target())?;
    client.expect("gen1")?;
    deploy(&host, "gen2")?;
    client.expect("gen1")?;
    let promoted = host.promote("gen2")?;
    client.expect("gen2")?;
    host.ok(&["rollback"])?;
    client.expect("gen1")?;
    ensure!(promoted.took < Duration::from_secs(5), "{promoted:?}");
    let udp = status(&host)?;
    ensure!(
        udp.flow == "none" && udp.flows == 0 && udp.begun == 0,
        "{udp:?}"
    );
    udp.check_balance()
}

#[test]
fn a_drain_ends_when_the_flows_are_idle() -> Result<()> {
    let host = host("flow_idle = \"2s\"\ndrain = { deadline = \"40s\" }")?;
    upgrade(&host, "gen1")?;
    let client = Client::new(host.netns(), target())?;
    client.expect("gen1")?;
    upgrade(&host, "gen2")?;
    let begun = Instant::now();
    wait::until_true(
        "the flow was used for three seconds",
        Duration::from_secs(9),
        || client.expect("gen1").is_err() || begun.elapsed() > Duration::from_secs(3),
    )?;
    client.expect("gen1")?;
    let last = Instant::now();
    let draining = host.generation("gen1")?;
    let drain = draining.drain.context("gen1 drains")?;
    ensure!(drain.left == 1 && draining.flows == Some(1), "{drain:?}");
    host.wait_state("gen1", &["standby"])?;
    ensure!(
        last.elapsed() > Duration::from_millis(1500),
        "gen1 ended {:?} after the flow's last datagram",
        last.elapsed()
    );
    client.expect("gen2")?;
    let udp = status(&host)?;
    ensure!(udp.moved == 0, "an idle flow is none: {udp:?}");
    Ok(())
}

#[test]
fn at_the_deadline_flows_that_are_left_are_led_to_the_active_generation() -> Result<()> {
    let host = host("flow_idle = \"1m\"\ndrain = { deadline = \"2s\" }")?;
    upgrade(&host, "gen1")?;
    let clients = Client::several(host.netns(), target(), 16)?;
    for client in &clients {
        client.expect("gen1")?;
    }
    upgrade(&host, "gen2")?;
    let mut moved = false;
    wait::until_true("all clients are with gen2", Duration::from_secs(10), || {
        let answers: Vec<_> = clients.iter().map(|client| client.send("?")).collect();
        let by = |name: &str| {
            let name = Reply::By(name.to_owned());
            answers
                .iter()
                .filter(|answer| matches!(answer, Ok(by) if *by == name))
                .count()
        };
        moved |= by("gen2") > 0;
        assert_eq!(by("gen1") + by("gen2"), clients.len(), "{answers:?}");
        by("gen2") == clients.len()
    })?;
    // It catches its signal, so it was told before the deadline, to say goodbye.
    host.wait_state("gen1", &["stopped"])?;
    let udp = status(&host)?;
    ensure!(moved && udp.moved == 16, "{udp:?}");
    Ok(())
}

#[test]
fn a_table_too_small_is_noticed() -> Result<()> {
    let host = host("flow_table = 64")?;
    upgrade(&host, "gen1")?;
    let clients = Client::several(host.netns(), target(), 400)?;
    for client in &clients {
        client.expect("gen1")?;
    }
    let evicted = wait::until("evictions are counted", Duration::from_secs(10), || {
        status(&host).ok().filter(|udp| udp.evicted > 0)
    })?;
    ensure!(
        evicted.evicted + evicted.flows == 400 && evicted.flows <= 64,
        "{evicted:?}"
    );
    let warnings = host.web()?.warnings;
    ensure!(
        warnings
            .iter()
            .any(|w| w.contains("the flow table is too small")),
        "{warnings:?}"
    );
    Ok(())
}

#[test]
fn nobody_is_led_to_a_generation_that_is_not_promoted() -> Result<()> {
    let host = host("")?;
    deploy(&host, "gen1")?;
    let client = Client::new(host.netns(), target())?;
    ensure!(client.send("?")? == Reply::Refused);
    host.ok(&["promote", "--no-wait", "gen1"])?;
    client.expect("gen1")?;
    ensure!(status(&host)?.exit("nobody")? >= 1);
    status(&host)?.check_balance()
}

#[test]
fn the_flows_of_a_generation_that_dies_go_to_the_one_that_stands_in() -> Result<()> {
    let host = host("flow_idle = \"1m\"\ndrain = { deadline = \"1m\" }")?;
    upgrade(&host, "gen1")?;
    let staying = Client::new(host.netns(), target())?;
    staying.expect("gen1")?;
    upgrade(&host, "gen2")?;
    let client = Client::new(host.netns(), target())?;
    client.expect("gen2")?;
    let pid = host.generation("gen2")?.process()?;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    wait::until_true(
        "gen1 answers the flow of gen2",
        Duration::from_secs(5),
        || matches!(client.send("?"), Ok(Reply::By(name)) if name == "gen1"),
    )?;
    staying.expect("gen1")?;
    ensure!(status(&host)?.moved == 1);
    Ok(())
}

#[test]
fn flows_stay_when_the_agent_is_killed() -> Result<()> {
    let mut host = host("flow_idle = \"1m\"\ndrain = { deadline = \"1m\" }")?;
    upgrade(&host, "gen1")?;
    let first = Client::new(host.netns(), target())?;
    first.expect("gen1")?;
    upgrade(&host, "gen2")?;
    let second = Client::new(host.netns(), target())?;
    second.expect("gen2")?;
    host.kill_agent()?;
    first.expect("gen1")?;
    second.expect("gen2")?;
    host.start_agent()?;
    first.expect("gen1")?;
    second.expect("gen2")?;
    ensure!(listed(&host)? == 2, "{} flows", listed(&host)?);
    let text = host.ok(&["flows"])?.stdout;
    let port = first.address()?.port();
    let line = text
        .lines()
        .find(|line| line.contains(&format!(":{port} ")));
    ensure!(line.is_some_and(|line| line.contains("gen1")), "{text}");
    Ok(())
}

#[test]
fn udp_and_tcp_of_one_port_move_together() -> Result<()> {
    let host = Host::with_service(&format!(
        "listen = [\"udp://0.0.0.0:{PORT}\", \"0.0.0.0:{PORT}\"]\nflow = \"none\"\nready_timeout = \"5s\""
    ))?;
    let both = |name: &str| {
        let tcp = format!("0.0.0.0:{PORT}");
        Udp::new(name, PORT).option("--tcp", tcp).command()
    };
    host.upgrade("gen1", &both("gen1")?)?;
    let client = Client::new(host.netns(), target())?;
    client.expect("gen1")?;
    host.upgrade("gen2", &both("gen2")?)?;
    client.expect("gen2")?;
    let greeting = host.netns().run(|| {
        let mut stream = std::net::TcpStream::connect(target())?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text)?;
        anyhow::Ok(text)
    })??;
    ensure!(greeting == "gen2", "{greeting}");
    let gen2 = host.generation("gen2")?;
    let steered: Vec<&str> = gen2
        .listeners
        .iter()
        .filter(|listener| listener.steered)
        .map(|listener| listener.protocol.as_str())
        .collect();
    ensure!(steered.len() == 2, "{gen2:?}");
    let without_tcp = host.try_deploy("gen3", &Udp::new("gen3", PORT).command()?)?;
    ensure!(
        without_tcp.code != 0
            && without_tcp
                .stderr
                .contains("nothing listens on 0.0.0.0:5353"),
        "{without_tcp:?}"
    );
    Ok(())
}

#[test]
fn a_connected_socket_keeps_its_client_and_the_others_are_steered() -> Result<()> {
    let host = host("flow_idle = \"1m\"\ndrain = { deadline = \"1m\" }")?;
    let several = |name: &str| Udp::new(name, PORT).option("--sockets", 2).command();
    host.deploy("gen1", &several("gen1")?)?;
    host.ok(&["promote", "--no-wait", "gen1"])?;
    let connected = Client::new(host.netns(), target())?;
    ensure!(connected.send("connect")? == Reply::By("gen1".to_owned()));
    wait::until_true(
        "the socket of its own answers",
        Duration::from_secs(5),
        || matches!(connected.send("?"), Ok(Reply::By(name)) if name == "gen1 connected"),
    )?;
    let other = Client::new(host.netns(), target())?;
    other.expect("gen1")?;
    host.deploy("gen2", &several("gen2")?)?;
    host.ok(&["promote", "--no-wait", "gen2"])?;
    connected.expect("gen1 connected")?;
    other.expect("gen1")?;
    for client in Client::several(host.netns(), target(), 32)? {
        client.expect("gen2")?;
    }
    Ok(())
}

/// The kernel asks once for what it hands on in one piece.
#[test]
fn a_train_of_datagrams_is_one_choice() -> Result<()> {
    const TRAIN: usize = 20;
    let host = host("")?;
    upgrade(&host, "gen1")?;
    let client = Client::new(host.netns(), target())?;
    client.expect("gen1")?;
    upgrade(&host, "gen2")?;
    let before = status(&host)?;
    let answers = client.train(TRAIN)?;
    ensure!(answers == vec!["gen1"; TRAIN], "{answers:?}");
    let after = status(&host)?;
    let (calls, kept) = (
        after.calls - before.calls,
        after.exit("kept")? - before.exit("kept")?,
    );
    ensure!((calls, kept) == (1, 1), "{calls} calls, {kept} kept");
    let fresh = Client::new(host.netns(), target())?;
    let answers = fresh.train(TRAIN)?;
    ensure!(answers == vec!["gen2"; TRAIN], "{answers:?}");
    ensure!(
        status(&host)?.begun == after.begun + 1,
        "{:?}",
        status(&host)?
    );
    status(&host)?.check_balance()
}

/// One group for both families, as a server that listens on `[::]` has it, and one for each.
#[test]
fn clients_of_either_family_are_flows() -> Result<()> {
    for (listen, servers) in [
        (r#"["udp://[::]:5353"]"#, &["[::]:5353"][..]),
        (
            r#"["udp://127.0.0.1:5353", "udp://[::1]:5353"]"#,
            &["127.0.0.1:5353", "[::1]:5353"],
        ),
    ] {
        let host = Host::with_service(&format!("listen = {listen}"))?;
        let upgrade = |name: &str| {
            let (first, others) = servers.split_first().context("an address")?;
            let server = others.iter().fold(Udp::at(name, first), |server, other| {
                server.option("--listen", other)
            });
            host.deploy(name, &server.command()?)?;
            host.ok(&["promote", "--no-wait", name])
        };
        upgrade("gen1")?;
        let clients = ["127.0.0.1:5353", "[::1]:5353"]
            .map(|target| Client::new(host.netns(), target.parse()?));
        let clients = clients.into_iter().collect::<Result<Vec<_>>>()?;
        clients
            .iter()
            .try_for_each(|client| client.expect("gen1"))?;
        upgrade("gen2")?;
        clients
            .iter()
            .try_for_each(|client| client.expect("gen1"))?;
        for target in ["127.0.0.1:5353", "[::1]:5353"] {
            Client::new(host.netns(), target.parse()?)?.expect("gen2")?;
        }
        let (flows, udp) = (listed(&host)?, status(&host)?);
        ensure!(flows == 4 && udp.moved == 0, "{listen}: {flows}, {udp:?}");
        udp.check_balance()?;
    }
    Ok(())
}

/// Datagrams wait for nobody: they are dropped while no generation lives, and served by the next one.
#[test]
fn a_server_that_cannot_run_twice_is_replaced() -> Result<()> {
    let host = host("mode = \"parked\"\nflow_idle = \"2s\"")?;
    host.upgrade("gen1", &Udp::new("gen1", PORT).command()?)?;
    let client = Client::new(host.netns(), target())?;
    client.expect("gen1")?;
    host.upgrade("gen2", &Udp::new("gen2", PORT).command()?)?;
    client.expect("gen2")?;
    host.ok(&["rollback"])?;
    client.expect("gen1")
}
