//! Many services behind one agent, each with a small server of its own.

use std::{
    fmt::Write as _,
    future::Future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use hotlb::api::{
    client::Client,
    wire::{DeployRequest, Done, PromoteRequest, RolloutOptions},
};
use tokio::{runtime::Runtime, sync::Semaphore, task::JoinSet};

use crate::{host::Host, servers::Plain};

/// The port of the first service; the others follow.
const FIRST_PORT: u16 = 20_000;
/// Servers that are started at the same time: each start is two processes and a check.
const AT_ONCE: usize = 8;

/// Services that are promoted at the same moment.
pub const PROMOTED_AT_ONCE: u16 = 100;

/// The services of a host: `s0`, `s1`, and so on.
#[derive(Debug)]
pub struct Fleet {
    services: u16,
    runtime: Runtime,
}

/// How a verb went at one service.
#[derive(Clone, Debug)]
pub struct Finished {
    /// From the moment all were asked to the answer.
    pub took: Duration,
    /// The answer.
    pub done: Done,
}

impl Fleet {
    /// Writes the configuration of so many services; `keys` are more lines of each section.
    pub fn configure(host: &Host, services: u16, keys: &str) -> Result<Self> {
        let mut config = "[agent]\nmetrics = \"off\"\n".to_owned();
        for index in 0..services {
            let listen = Self::address_of(index);
            writeln!(
                config,
                "[service.s{index}]\nlisten = [\"{listen}\"]\n{keys}"
            )?;
        }
        host.write_config(&config)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self { services, runtime })
    }

    /// Where a service listens.
    pub fn address_of(index: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], FIRST_PORT + index))
    }

    /// How many there are.
    pub fn services(&self) -> u16 {
        self.services
    }

    /// Starts `generation` in each of the first `count` services.
    pub fn deploy(&self, host: &Host, count: u16, generation: &str) -> Result<Vec<Finished>> {
        self.each(count, AT_ONCE, |index| {
            let client = Client::new(&host.socket());
            let listen = Self::address_of(index).to_string();
            let command = Plain::new(generation).listen(&listen).command();
            let request = command.map(|command| DeployRequest {
                generation: Some(generation.to_owned()),
                command,
                cwd: host.directory().to_owned(),
                env: std::collections::BTreeMap::default(),
                timeout_ms: None,
            });
            async move {
                let path = format!("/v1/services/s{index}/deploy");
                Ok(client.verb(&path, &request?, |_| {}).await?)
            }
        })
    }

    /// Promotes `generation` in the first `count` services, [`PROMOTED_AT_ONCE`] at a time.
    pub fn promote(&self, host: &Host, count: u16, generation: &str) -> Result<Vec<Finished>> {
        self.each(count, usize::from(PROMOTED_AT_ONCE), |index| {
            let client = Client::new(&host.socket());
            let request = PromoteRequest {
                generation: generation.to_owned(),
                options: RolloutOptions {
                    no_wait: true,
                    ..RolloutOptions::default()
                },
            };
            async move {
                let path = format!("/v1/services/s{index}/promote");
                Ok(client.verb(&path, &request, |_| {}).await?)
            }
        })
    }

    /// Does the same for the first `count` services, `at_once` at a time.
    fn each<F>(&self, count: u16, at_once: usize, work: impl Fn(u16) -> F) -> Result<Vec<Finished>>
    where
        F: Future<Output = Result<Done>> + Send + 'static,
    {
        let room = Arc::new(Semaphore::new(at_once));
        let began = Instant::now();
        self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for index in 0..count {
                let (room, work) = (Arc::clone(&room), work(index));
                tasks.spawn(async move {
                    let _turn = room.acquire().await?;
                    let done = work.await.with_context(|| format!("service s{index}"))?;
                    anyhow::Ok(Finished {
                        took: began.elapsed(),
                        done,
                    })
                });
            }
            let finished = tasks.join_all().await;
            finished.into_iter().collect()
        })
    }
}
