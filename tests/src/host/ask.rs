//! What a test asks of its host: the verbs of the CLI, the status, and the servers behind the port.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;

use super::Host;
use crate::{
    command::{self, Run, Running},
    http::Response,
    load::{Load, Plan},
    servers::Kind,
    status::{Generation, Service, Status},
    wait,
    waiting::Waiting,
};

/// How long any command of the CLI may take: longer than every deadline in a test's configuration.
const COMMAND_LIMIT: Duration = Duration::from_mins(1);

impl Host {
    /// Runs `hotlb` with these arguments to its end.
    pub fn hotlb(&self, arguments: &[&str]) -> Result<Run> {
        self.start_hotlb(arguments)?.finish(COMMAND_LIMIT)
    }

    /// Runs `hotlb`; fails with its output and the agent's log unless it ends with 0.
    pub fn ok(&self, arguments: &[&str]) -> Result<Run> {
        self.hotlb(arguments)?
            .expect_success()
            .with_context(|| format!("the agent's log:\n{}", self.agent_log()))
    }

    /// Starts `hotlb` with these arguments.
    pub fn start_hotlb(&self, arguments: &[&str]) -> Result<Running> {
        command::start(self.command(&self.hotlb).args(arguments))
    }

    /// `hotlb deploy --generation GENERATION -- SERVER`, whatever comes of it.
    pub fn try_deploy(&self, generation: &str, server: &[String]) -> Result<Run> {
        let mut arguments = vec!["deploy", "--generation", generation, "--"];
        arguments.extend(server.iter().map(String::as_str));
        self.hotlb(&arguments)
    }

    /// Deploys; fails unless the generation gets ready.
    pub fn deploy(&self, generation: &str, server: &[String]) -> Result<Run> {
        self.try_deploy(generation, server)?
            .expect_success()
            .with_context(|| format!("the agent's log:\n{}", self.agent_log()))
    }

    /// Deploys a plain server on port 8080.
    pub fn deploy_plain(&self, generation: &str) -> Result<()> {
        let server = Kind::Plain.command(self.directory(), generation, 8080)?;
        self.deploy(generation, &server).map(drop)
    }

    /// Starts `hotlb upgrade --generation GENERATION OPTIONS -- SERVER`.
    pub fn start_upgrade(
        &self,
        generation: &str,
        options: &[&str],
        server: &[String],
    ) -> Result<Running> {
        let mut arguments = vec!["upgrade", "--generation", generation];
        arguments.extend(options);
        arguments.push("--");
        arguments.extend(server.iter().map(String::as_str));
        self.start_hotlb(&arguments)
    }

    /// The same to its end, whatever comes of it.
    pub fn try_upgrade(
        &self,
        generation: &str,
        options: &[&str],
        server: &[String],
    ) -> Result<Run> {
        let running = self.start_upgrade(generation, options, server)?;
        running.finish(COMMAND_LIMIT)
    }

    /// Promotes; fails unless that is done.
    pub fn promote(&self, generation: &str) -> Result<Run> {
        self.ok(&["promote", generation])
    }

    /// Deploys and promotes.
    pub fn upgrade(&self, generation: &str, server: &[String]) -> Result<()> {
        self.deploy(generation, server)?;
        self.promote(generation)?;
        Ok(())
    }

    /// Deploys in one of several services.
    pub fn deploy_of(&self, service: &str, generation: &str, server: &[String]) -> Result<()> {
        let mut arguments = vec!["deploy", "-s", service, "--generation", generation, "--"];
        arguments.extend(server.iter().map(String::as_str));
        self.ok(&arguments).map(drop)
    }

    /// Deploys and promotes in one of several services.
    pub fn upgrade_of(&self, service: &str, generation: &str, server: &[String]) -> Result<()> {
        self.deploy_of(service, generation, server)?;
        self.ok(&["promote", "-s", service, generation])?;
        Ok(())
    }

    /// The status of everything.
    pub fn status(&self) -> Result<Status> {
        let run = self.ok(&["status", "--output", "json"])?;
        serde_json::from_str(&run.stdout).with_context(|| run.describe())
    }

    /// The status of the service called `web`.
    pub fn web(&self) -> Result<Service> {
        Ok(self.status()?.service("web")?.clone())
    }

    /// The status of a generation of the service called `web`.
    pub fn generation(&self, name: &str) -> Result<Generation> {
        Ok(self.web()?.generation(name)?.clone())
    }

    /// Waits until a generation of the service `web` is in one of `states`.
    pub fn wait_state(&self, generation: &str, states: &[&str]) -> Result<Generation> {
        let mut last = None;
        let found = wait::until(
            &format!("{generation} is {states:?}"),
            Duration::from_secs(15),
            || {
                last = self.generation(generation).ok();
                last.clone()
                    .filter(|found| states.contains(&found.state.as_str()))
            },
        );
        found.with_context(|| {
            format!(
                "last seen: {last:?}\nthe agent's log:\n{}",
                self.agent_log()
            )
        })
    }

    /// The process that holds the parking listeners, if there is one.
    pub fn keeper(&self) -> Result<Option<Pid>> {
        let keeps = |pid: &Pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line.split('\0').any(|word| word == "__keep"))
        };
        Ok(self.netns.pids()?.into_iter().find(keeps))
    }

    /// One request on a connection of its own; the generation that answered.
    pub fn ask(&self, target: SocketAddr) -> Result<String> {
        Ok(self.ask_many(target, 1)?.remove(0).generation)
    }

    /// One request for `path`, whatever its status.
    pub fn ask_path(&self, target: SocketAddr, path: &str) -> Result<Response> {
        let waiting = Waiting::open_path(&self.netns, target, path, 1)?;
        waiting
            .finish()
            .into_iter()
            .next()
            .context("no answer")?
            .map_err(Into::into)
    }

    /// `count` requests at once, each on a connection of its own.
    pub fn ask_many(&self, target: SocketAddr, count: usize) -> Result<Vec<Response>> {
        Waiting::open(&self.netns, target, count)?.answers()
    }

    /// Fails unless each of `count` new connections is answered by `generation`.
    pub fn expect_answers(&self, target: SocketAddr, count: usize, generation: &str) -> Result<()> {
        let answers = self.ask_many(target, count)?;
        let wrong: Vec<_> = answers
            .iter()
            .filter(|answer| answer.generation != generation)
            .collect();
        ensure!(
            wrong.is_empty(),
            "{} of {count} answers at {target} are not by {generation}: {wrong:?}",
            wrong.len()
        );
        Ok(())
    }

    /// Starts a load from inside the namespace.
    pub fn load(&self, plan: Plan) -> Result<Load> {
        Load::start(&self.netns, plan)
    }
}
