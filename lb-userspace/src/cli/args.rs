//! What can be typed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Replace a running server by its next version without losing a connection.
///
/// Generations of a server share its port; the kernel steers each new connection to the active
/// one. `deploy` starts a generation beside it, `promote` moves the traffic when it has proved
/// that it serves, `rollback` moves it back. The server needs no change.
#[derive(Debug, Parser)]
#[command(
    name = "hotlb",
    version,
    max_term_width = 100,
    after_help = "\
Begin here:
  sudo hotlb run --listen 0.0.0.0:8080 -- ./server     in one terminal
  sudo hotlb upgrade -- ./server-v2                    in another

Places: HOTLB_CONFIG, HOTLB_RUNTIME_DIR, HOTLB_STATE_DIR, HOTLB_BPFFS_DIR, HOTLB_CGROUP move the
agent's configuration, socket, records, pins and cgroup; the same variables lead the other
commands to it.

Exit codes: 0 done; 1 it failed, nothing was promoted; 2 wrong usage; 3 no agent; 4 not permitted;
5 no such service or generation; 6 refused in this state; 7 the host lacks something; 8 other API
version; 78 configuration."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print for people or for programs.
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub output: OutputFormat,
    /// Print nothing but errors and what was asked for.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Table,
    /// For programs: one JSON value on stdout, errors included.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent (as root): clients can connect to its services from then on.
    Agent(AgentArgs),
    /// Run agent, service and a first generation in one terminal, without a configuration.
    Run(RunArgs),
    /// Deploy and promote in one go; the generation is named for you.
    #[command(after_help = "Example: hotlb upgrade -- ./server-v2 --port 8080")]
    Upgrade(DeployArgs),
    /// Start a generation beside the active one. Returns when it is ready; it gets no client yet.
    #[command(after_help = "\
Example: hotlb deploy --generation gen2 -- nginx -c /srv/v2/nginx.conf -g 'daemon off;'

Ready means: its process lives, it listens on every declared address, and it answered a probe that
went through the real port.")]
    Deploy(DeployArgs),
    /// Make a generation active. Returns when it serves and the former one is drained.
    Promote(TargetArgs),
    /// Make the generation active again that was so before the last promote.
    Rollback(ServiceArgs),
    /// End a generation that is not active; with --park the active one.
    Stop(StopArgs),
    /// Show services, generations, connections and what is not as it should be.
    Status(ServiceArgs),
    /// End all generations, the parking listeners and the agent. Clients are refused from then on.
    Down,
    /// Check what this host can do for hotlb, and say what is missing and what that costs.
    Doctor,
    /// Print completions for a shell.
    #[command(after_help = "Example: hotlb completions bash > /etc/bash_completion.d/hotlb")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// A service's keeper of parking listeners (started by the agent).
    #[command(name = "__keep", hide = true)]
    Keep {
        /// Where it listens for the agent.
        #[arg(long)]
        socket: PathBuf,
        /// The cgroup it lives in.
        #[arg(long)]
        cgroup: PathBuf,
    },
    /// The child that becomes a server (started by the agent).
    #[command(name = "__exec", hide = true)]
    Exec,
}

/// `hotlb agent`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentArgs {
    /// What is asked of an agent that runs.
    #[command(subcommand)]
    pub command: Option<AgentCommand>,
    /// The configuration [default: `HOTLB_CONFIG`, else /etc/hotlb/hotlb.toml].
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Log one JSON value a line.
    #[arg(long)]
    pub log_json: bool,
    /// Take over from the agent whose socket is stdin (started by that agent).
    #[arg(long, hide = true)]
    pub take_over: bool,
}

/// Verbs for the agent itself.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Replace the running agent by another hotlb. Generations, connections and counts go on;
    /// whatever fails on the way leaves the running agent in charge.
    #[command(after_help = "\
Examples: hotlb agent upgrade                       after a package upgrade, or to read a changed configuration
          hotlb agent upgrade ./target/release/hotlb")]
    Upgrade(UpgradeAgentArgs),
}

/// `hotlb agent upgrade`.
#[derive(Debug, Args)]
pub struct UpgradeAgentArgs {
    /// The program that takes over [default: the one at the path the agent was started by].
    pub binary: Option<PathBuf>,
    /// Its configuration [default: the agent's own].
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// `hotlb run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// An address to listen on, for example 0.0.0.0:8080 or `[::]:8080`; may be repeated.
    #[arg(long, required = true)]
    pub listen: Vec<SocketAddr>,
    /// The name of the service.
    #[arg(long, default_value = "default")]
    pub service: String,
    /// The path a GET must answer with 200 to 399 [default: a TCP connect].
    #[arg(long, value_name = "PATH")]
    pub health: Option<String>,
    /// Who the server runs as [default: root].
    #[arg(long)]
    pub user: Option<String>,
    /// Where Prometheus scrapes [default: nowhere].
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// The server and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Which service.
#[derive(Clone, Debug, Args)]
pub struct ServiceArgs {
    /// The service; may be left out while there is only one.
    #[arg(long, short)]
    pub service: Option<String>,
}

/// Which generation.
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The generation, as `hotlb status` names it.
    pub generation: String,
}

/// `hotlb stop`.
#[derive(Clone, Debug, Args)]
pub struct StopArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Stop it even if it is active: new clients wait until another one is promoted.
    #[arg(long)]
    pub park: bool,
}

impl TargetArgs {
    pub(super) fn service(&self) -> &ServiceArgs {
        &self.service
    }
}

/// `hotlb deploy` and `hotlb upgrade`.
#[derive(Clone, Debug, Args)]
pub struct DeployArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// A name for the generation [default: genN].
    #[arg(long, short)]
    pub generation: Option<String>,
    /// How long it may take to become ready [default: the service's `ready_timeout`].
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// Added to the server's environment; may be repeated.
    #[arg(long, value_parser = key_value, value_name = "NAME=VALUE")]
    pub env: Vec<(String, String)>,
    /// The server and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl DeployArgs {
    /// A deploy of `command` to the only service there is.
    pub fn of(command: Vec<String>) -> Self {
        Self {
            service: ServiceArgs { service: None },
            generation: None,
            timeout: None,
            env: Vec::new(),
            command,
        }
    }

    pub(super) fn service(&self) -> &ServiceArgs {
        &self.service
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE is wanted".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_the_server_are_its_own() {
        let typed = [
            "hotlb",
            "deploy",
            "-g",
            "gen2",
            "--",
            "nginx",
            "-g",
            "daemon off;",
        ];
        let cli = Cli::try_parse_from(typed).unwrap();
        let Command::Deploy(args) = cli.command else {
            panic!("not a deploy");
        };
        assert_eq!(args.generation.as_deref(), Some("gen2"));
        assert_eq!(args.command, ["nginx", "-g", "daemon off;"]);
    }
}
