//! What can be typed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::{
    destination::Destination, flows::FlowsArgs, history::HistoryArgs, incidents::IncidentsArgs,
    profile::ProfileArgs,
};
use crate::{config::Hook, telemetry::traces::TraceParent};

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
5 no such service, generation or rollout; 6 refused in this state; 7 the host lacks something; 8 other API
version; 9 it failed and nobody is active; 78 configuration."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print for people (table) or for programs (json); for a profile also the file to write.
    #[arg(
        long,
        short,
        global = true,
        default_value = "table",
        value_name = "table|json"
    )]
    pub output: Destination,
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
    #[command(after_help = "\
Examples:
  hotlb upgrade -- ./server-v2 --port 8080
  hotlb upgrade --bake 1m --hook validate=./smoke-test.sh -- ./server-v2 --port 8080")]
    Upgrade(UpgradeArgs),
    /// Start a generation beside the active one. Returns when it is ready; it gets no client yet.
    #[command(after_help = "\
Example: hotlb deploy --generation gen2 -- nginx -c /srv/v2/nginx.conf -g 'daemon off;'

Ready means: its process lives, it listens on every declared address, and it answered a probe that
went through the real port.")]
    Deploy(DeployArgs),
    /// Become a generation under another supervisor (systemd, runit, a container runtime), as root.
    #[command(after_help = "\
Example, in a unit: ExecStart=/usr/local/bin/hotlb exec -s web -g %i -- /usr/sbin/nginx -g 'daemon off;'

The process becomes the server: same pid, same standard streams, same environment. Ready, or failed, is
found out in the background (hotlb status); `hotlb promote` gives it clients.")]
    Exec(ExecArgs),
    /// Make a server that runs already a generation, without a restart, if it shares its port.
    #[command(after_help = "\
Example: hotlb adopt --generation gen1 --unit nginx.service

The service must say adopt = true. The server must listen on every declared address with SO_REUSEPORT,
and have its cgroup for itself, as a systemd service has.")]
    Adopt(AdoptArgs),
    /// Make a generation active. Returns when it serves, its bake is over, and the former one is
    /// drained.
    Promote(PromoteArgs),
    /// Make the generation active again that was so before the last promote; calls a rollout off
    /// that has not ended.
    Rollback(RollbackArgs),
    /// End a generation that is not active; with --park the active one.
    Stop(StopArgs),
    /// Show services, generations, connections and what is not as it should be.
    Status(ServiceArgs),
    /// List the rollouts that were; `history show` tells one in full.
    #[command(after_help = "\
Examples: hotlb history --service web
          hotlb history show r42")]
    History(HistoryArgs),
    /// Show where a generation spends CPU time, or waits: a table, a flame graph, or a file for other tools.
    #[command(after_help = "\
Examples: hotlb profile gen2                               the top functions of 10 seconds
          hotlb profile gen2 --for 30s -o gen2.svg         a flame graph
          hotlb profile gen2 --off-cpu                     where its threads wait
          hotlb profile --diff gen1 gen2 -o diff.svg       what changed, sampled at the same moment

Only for root. Stacks of programs without frame pointers are found too.")]
    Profile(ProfileArgs),
    /// List what was unusual; `incidents show` tells one in full.
    #[command(after_help = "\
Examples: hotlb incidents web
          hotlb incidents show i7
          hotlb incidents show i7 -o i7.svg         its flame graph
          hotlb incidents windows                   what the first stage sees now")]
    Incidents(IncidentsArgs),
    /// List the flows of UDP clients: who sends, which generation it is with, since when.
    #[command(after_help = "Examples:
          hotlb flows
          hotlb flows dns --limit 20 --output json")]
    Flows(FlowsArgs),
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
    /// Takes servers' outputs from their pipes to their files (started by the agent).
    #[command(name = "__log", hide = true)]
    Log {
        /// The directory of the pipes.
        #[arg(long)]
        pipes: PathBuf,
        /// The directory of the files.
        #[arg(long)]
        files: PathBuf,
        /// The cgroup it lives in.
        #[arg(long)]
        cgroup: PathBuf,
    },
    /// The child that becomes a server (started by the agent).
    #[command(name = "__exec", hide = true)]
    Shim,
    /// The child that becomes a hook (started by the agent).
    #[command(name = "__hook", hide = true)]
    Hook,
    /// The child that samples (started by the agent).
    #[command(name = "__profile", hide = true)]
    Sample,
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

/// In whose trace.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct TraceArgs {
    /// The span the rollout's trace is a child of, as W3C Trace Context writes it [default: the
    /// variable TRACEPARENT, if that has one].
    #[arg(long, value_name = "TRACEPARENT")]
    traceparent: Option<TraceParent>,
}

impl TraceArgs {
    /// The caller's span. What stands in the environment may be anybody's: if it cannot be read,
    /// there is none.
    pub(super) fn parent(&self) -> Option<TraceParent> {
        let inherited = || std::env::var("TRACEPARENT").ok()?.parse().ok();
        self.traceparent.clone().or_else(inherited)
    }
}

/// How a rollout goes.
#[derive(Clone, Debug, Default, Args)]
pub struct RolloutArgs {
    /// How long the new generation is on probation: if it crashes, loses its listeners or stops
    /// answering meanwhile, it is rolled back [default: the service's `bake`].
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub bake: Option<Duration>,
    /// How long the former generation is kept for a rollback [default: the service's `keep`].
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub keep: Option<Duration>,
    /// A hook beside the configured ones: `PHASE=COMMAND`, run by /bin/sh in phase `pre_load`,
    /// `validate`, `swap` or `post_rollback`; may be repeated.
    #[arg(long, value_name = "PHASE=COMMAND")]
    pub hook: Vec<Hook>,
    /// Return as soon as the traffic has moved; the rollout goes on.
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub(super) trace: TraceArgs,
}

/// `hotlb promote`.
#[derive(Clone, Debug, Args)]
pub struct PromoteArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) rollout: RolloutArgs,
}

/// `hotlb upgrade`.
#[derive(Clone, Debug, Args)]
pub struct UpgradeArgs {
    #[command(flatten)]
    pub(super) rollout: RolloutArgs,
    /// Where the active generation has to end first (mode = "parked"): end it although it could not
    /// be started again.
    #[arg(long)]
    pub anyway: bool,
    #[command(flatten)]
    pub(super) deploy: DeployArgs,
}

/// `hotlb rollback`.
#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    /// Another generation than the one that was active before, as `hotlb status` names it; one
    /// that has ended is started again.
    #[arg(long, value_name = "GENERATION")]
    pub to: Option<String>,
    /// Start it again although its program is another file by now.
    #[arg(long)]
    pub anyway: bool,
    /// Return as soon as the traffic has moved; the drain goes on.
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub(super) trace: TraceArgs,
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

impl UpgradeArgs {
    /// An upgrade to `command` of the only service there is, with everything as usual.
    pub fn of(command: Vec<String>) -> Self {
        Self {
            rollout: RolloutArgs::default(),
            anyway: false,
            deploy: DeployArgs::of(command),
        }
    }
}

/// `hotlb deploy`.
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
    fn of(command: Vec<String>) -> Self {
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

/// `hotlb exec`.
#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    /// A name for the generation [default: genN]. One that ended may be used again.
    #[arg(long, short)]
    pub generation: Option<String>,
    /// Added to the server's environment; may be repeated.
    #[arg(long, value_parser = key_value, value_name = "NAME=VALUE")]
    pub env: Vec<(String, String)>,
    /// The server and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `hotlb adopt`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("server").required(true))]
pub struct AdoptArgs {
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    /// A name for the generation [default: genN].
    #[arg(long, short)]
    pub generation: Option<String>,
    /// The server's first process.
    #[arg(long, group = "server")]
    pub pid: Option<u32>,
    /// The systemd service it is.
    #[arg(long, group = "server")]
    pub unit: Option<String>,
    /// What starts it again, for a rollback to it after it has ended [default: its own command line].
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
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
