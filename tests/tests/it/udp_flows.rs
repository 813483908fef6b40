//! Promise: a flow stays with its generation over every promote and every drain, those that end at once among them.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb::sys::{bpf, mapped::MappedCells};
use hotlb_tests::{
    api,
    datagrams::{Client, Reply},
    dns::{deploy, host, status, target, upgrade},
    host::Host,
    report,
};
use lb_common::{FLOW_CELLS, FLOW_CLOSED, FLOW_CLOSED_UPPER, GenerationId, SeatSet, names};

const PROMOTES: usize = 20;
/// New flows for each generation.
const FLOWS_EACH: usize = 8;

/// A client and the generation that it got first.
struct Flow {
    client: Client,
    generation: String,
}

impl Flow {
    fn ask(&self, found: &mut Found) -> Result<()> {
        let reply = self.client.send("?")?;
        found.datagrams += 1;
        if reply != Reply::By(self.generation.clone()) {
            found.wrong.push(format!("{}: {reply:?}", self.generation));
        }
        Ok(())
    }
}

/// What the clients found, asking all the while.
#[derive(Default)]
struct Found {
    datagrams: u64,
    wrong: Vec<String>,
}

impl Found {
    fn expect_none_astray(&self) -> Result<()> {
        ensure!(
            self.wrong.is_empty(),
            "{} of {} datagrams went astray: {:?}",
            self.wrong.len(),
            self.datagrams,
            self.wrong.first()
        );
        Ok(())
    }
}

fn ask_until(stop: &AtomicBool, flows: &[Flow]) -> Result<Found> {
    let mut found = Found::default();
    while !stop.load(Ordering::Acquire) {
        for flow in flows {
            flow.ask(&mut found)?;
        }
    }
    Ok(found)
}

#[test]
fn flows_stay_with_their_generation_over_twenty_promotes() -> Result<()> {
    let host = host("flow_idle = \"30s\"\ndrain = { deadline = \"3m\" }")?;
    upgrade(&host, "gen0")?;
    let mut asked = 0;
    let mut flows: Vec<Flow> = Vec::new();
    for number in 0..=PROMOTES {
        let generation = format!("gen{number}");
        let stop = AtomicBool::new(false);
        let found = thread::scope(|scope| {
            let asking = scope.spawn(|| ask_until(&stop, &flows));
            let upgraded = if number == 0 {
                Ok(())
            } else {
                upgrade(&host, &generation)
            };
            stop.store(true, Ordering::Release);
            let found = asking
                .join()
                .map_err(|_panic| anyhow::anyhow!("panicked"))?;
            upgraded.and(found)
        })?;
        asked += found.datagrams;
        found
            .expect_none_astray()
            .with_context(|| format!("promote {number}"))?;
        for client in Client::several(host.netns(), target(), FLOWS_EACH)? {
            client.expect(&generation)?;
            flows.push(Flow {
                client,
                generation: generation.clone(),
            });
        }
    }
    for flow in &flows {
        flow.client.expect(&flow.generation)?;
    }
    let udp = status(&host)?;
    udp.check_balance()?;
    ensure!(udp.moved == 0 && udp.evicted == 0, "{udp:?}");
    ensure!(udp.begun == flows.len() as u64, "{udp:?}");
    report::figure("udp: datagrams over 20 promotes", asked.to_string());
    report::figure("udp: flows kept", format!("{0} of {0}", flows.len()));
    Ok(())
}

/// The agent looks at the table now and then: what it saw last does not know the flows that began since.
#[test]
fn flows_that_begin_right_before_the_drain_stay() -> Result<()> {
    const ROUNDS: usize = 5;
    let host = host("flow_idle = \"1m\"\nflow_table = 65536\ndrain = { deadline = \"1m\" }")?;
    upgrade(&host, "gen0")?;
    crowd(&host)?;
    let socket = host.socket();
    // A port that is used again would be an earlier flow.
    let mut earlier = Vec::new();
    for round in 0..ROUNDS {
        let (now, next) = (format!("gen{round}"), format!("gen{}", round + 1));
        deploy(&host, &next)?;
        let stop = AtomicBool::new(false);
        let (found, flows) = thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    let _looked = api::request(&socket, "GET", "/v1/status", api::VERSION, "");
                }
            });
            let all = || -> Result<(Found, Vec<Flow>)> {
                host.web()?;
                let flow = |client| Flow {
                    client,
                    generation: now.clone(),
                };
                let flows = Client::several(host.netns(), target(), FLOWS_EACH)?;
                let flows: Vec<_> = flows.into_iter().map(flow).collect();
                for flow in &flows {
                    flow.client.expect(&now)?;
                }
                let asking = scope.spawn(move || ask_until_drained(flows));
                host.ok(&["promote", "--no-wait", &next])?;
                asking
                    .join()
                    .map_err(|_panic| anyhow::anyhow!("panicked"))?
            };
            let found = all();
            stop.store(true, Ordering::Release);
            found
        })?;
        earlier.extend(flows);
        found.expect_none_astray()?;
    }
    let udp = status(&host)?;
    ensure!(udp.moved == 0, "{udp:?}");
    Ok(())
}

/// So many flows of others that the agent does not look at the table often: a look takes some milliseconds.
fn crowd(host: &Host) -> Result<()> {
    const FLOWS: u16 = 30_000;
    host.netns().run(|| {
        for number in 0..FLOWS {
            let [high, low] = number.to_be_bytes();
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 1, high, low), 4_000))?;
            socket.send_to(b"?", target())?;
        }
        anyhow::Ok(())
    })?
}

/// Asks for longer than it takes from a promote to the first look of its drain.
fn ask_until_drained(flows: Vec<Flow>) -> Result<(Found, Vec<Flow>)> {
    let began = Instant::now();
    let mut found = Found::default();
    while began.elapsed() < Duration::from_millis(200) {
        for flow in &flows {
            flow.ask(&mut found)?;
        }
    }
    Ok((found, flows))
}

/// The seats of generations 1 and 65 are 64 apart: what is closed to the flows of one is open to the other's.
#[test]
fn a_drain_leaves_the_flows_of_a_generation_sixty_four_seats_away() -> Result<()> {
    let host = host("flow_idle = \"1m\"\ndrain = { deadline = \"1m\" }")?;
    upgrade(&host, "first")?;
    let staying = Client::new(host.netns(), target())?;
    staying.expect("first")?;
    // Each takes an id, and fails.
    let ends = ["false".to_owned()];
    for number in 2..65 {
        let failed = host.try_deploy(&format!("none{number}"), &ends)?;
        ensure!(failed.code != 0, "{}", failed.describe());
        // Not idle on a slow machine either.
        staying.expect("first")?;
    }
    upgrade(&host, "far")?;
    let apart = host.generation("far")?.id - host.generation("first")?.id;
    ensure!(apart == 64, "{apart}");
    // It has no flow, so its drain ends at once, and the generation is closed to flows.
    upgrade(&host, "last")?;
    host.wait_state("far", &["standby", "stopped"])?;
    for _ in 0..100 {
        staying.expect("first")?;
    }
    ensure!(status(&host)?.moved == 0);
    Ok(())
}

/// f4d529e closed generation 65 by the bit of generation 1, and whoever follows it finds that bit.
#[test]
fn an_agent_that_follows_takes_no_closed_generation_from_the_former() -> Result<()> {
    let mut host = host("flow_idle = \"1m\"\ndrain = { deadline = \"1m\" }")?;
    upgrade(&host, "first")?;
    let staying = Client::new(host.netns(), target())?;
    staying.expect("first")?;
    upgrade(&host, "last")?;
    host.wait_state("first", &["draining"])?;
    let drains = u32::try_from(host.generation("first")?.id)?;
    let drains = GenerationId::new(drains).context("an id")?;
    host.kill_agent()?;
    let rules = host.bpffs().join("web/maps").join(names::FLOW_RULES);
    let rules = MappedCells::new(bpf::pinned(&rules)?, FLOW_CELLS)?;
    let [lower, upper] = SeatSet::EMPTY.with(drains).cells();
    rules.store(FLOW_CLOSED, lower);
    rules.store(FLOW_CLOSED_UPPER, upper);
    host.start_agent()?;
    staying.expect("first")?;
    ensure!(rules.load(FLOW_CLOSED) == 0 && rules.load(FLOW_CLOSED_UPPER) == 0);
    ensure!(status(&host)?.moved == 0);
    Ok(())
}
