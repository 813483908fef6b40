//! What can be typed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use hotlb_core::{config::Hook, trace_parent::TraceParent};

use super::{
    destination::Destination, flows::FlowsArgs, history::HistoryArgs, incidents::IncidentsArgs,
    profile::ProfileArgs,
};

/// Upgrade a running server to its next version without losing a connection.
///
/// All generations of a server share its port, and the kernel steers each new connection to the
/// active one. `deploy` starts a new generation, `promote` checks that it serves and moves the
/// traffic to it, `rollback` moves the traffic back. The server needs no change.
#[derive(Debug, Parser)]
#[command(
    name = "hotlb",
    version,
    max_term_width = 100,
    after_help = "\
Quick start:
  sudo hotlb run --listen 0.0.0.0:8080 -- ./server     in one terminal
  sudo hotlb upgrade -- ./server-v2                    in another

Environment: HOTLB_CONFIG, HOTLB_RUNTIME_DIR, HOTLB_STATE_DIR, HOTLB_BPFFS_DIR
and HOTLB_CGROUP set the paths of the agent's configuration, socket, records,
pins and cgroup. Other commands use the same variables to find the agent.

Exit codes:
   0  success                            6  refused in the current state
   1  failed, nothing was promoted       7  the host lacks a requirement
   2  wrong usage                        8  another API version
   3  no agent is running                9  failed, and no generation is active
   4  not permitted                     78  invalid configuration
   5  no such service, generation, rollout, process or unit"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Output format: table or json; with `profile` or `incidents show` also a file name.
    #[arg(
        long,
        short,
        global = true,
        default_value = "table",
        value_name = "table|json"
    )]
    pub output: Destination,
    /// Print only errors and the requested result.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A table, for people.
    #[default]
    Table,
    /// One JSON value on stdout, errors included.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent in the foreground (as root). Once it is ready, clients can connect.
    Agent(AgentArgs),
    /// Run the agent, one service and its first generation in one terminal, without a
    /// configuration file.
    Run(RunArgs),
    /// Deploy and promote a new generation in one rollout.
    #[command(after_help = "\
Examples:
  hotlb upgrade -- ./server-v2 --port 8080
  hotlb upgrade --bake 1m --hook validate=./smoke-test.sh -- ./server-v2 --port 8080")]
    Upgrade(UpgradeArgs),
    /// Start a generation next to the active one. Returns when it is ready; it gets no clients
    /// before `promote`.
    #[command(after_help = "\
Example: hotlb deploy --generation gen2 -- nginx -c /srv/v2/nginx.conf -g 'daemon off;'

A generation is ready when its process runs, it listens on every configured address, and it has
answered a probe through the real port.")]
    Deploy(DeployArgs),
    /// Turn this process into a generation under another supervisor, such as systemd, runit or a
    /// container runtime (as root).
    #[command(after_help = "\
Example, in a systemd unit:
  ExecStart=/usr/local/bin/hotlb exec -s web -g %i -- /usr/sbin/nginx -g 'daemon off;'

This process becomes the server: same pid, same standard streams, same environment. The agent
checks in the background whether it is ready; `hotlb status` shows the result. `hotlb promote`
sends it clients.")]
    Exec(ExecArgs),
    /// Adopt an already running server (must use `SO_REUSEPORT`), without restarting it.
    #[command(after_help = "\
Example: hotlb adopt --generation gen1 --unit nginx.service

The service must be configured with adopt = true. The server must listen on every configured
address with SO_REUSEPORT, and must have a cgroup of its own, as every systemd service does.")]
    Adopt(AdoptArgs),
    /// Make a generation active. Returns when it serves, its bake is over and the former
    /// generation is drained.
    Promote(PromoteArgs),
    /// Return to the previously active generation; cancels a rollout in progress.
    Rollback(RollbackArgs),
    /// Stop a generation that is not active; with --park, also the active one.
    Stop(StopArgs),
    /// Show services, generations, connections and warnings.
    Status(ServiceArgs),
    /// List past rollouts; `history show ID` prints one in detail.
    #[command(after_help = "\
Examples: hotlb history --service web
          hotlb history show r42")]
    History(HistoryArgs),
    /// Profile a generation: show where it spends CPU time or waits, as a table, a flame graph or a
    /// file for other tools.
    #[command(after_help = "\
Examples: hotlb profile gen2                               the top functions over 10 seconds
          hotlb profile gen2 --for 30s -o gen2.svg         a flame graph
          hotlb profile gen2 --off-cpu                     where its threads wait
          hotlb profile --diff gen1 gen2 -o diff.svg       what changed, sampled at the same time

Only for root. Programs without frame pointers can be profiled too.")]
    Profile(ProfileArgs),
    /// List detected anomalies; `incidents show ID` prints one in detail.
    #[command(after_help = "\
Examples: hotlb incidents web
          hotlb incidents show i7
          hotlb incidents show i7 -o i7.svg         writes its flame graph
          hotlb incidents windows                   the newest windows and their scores")]
    Incidents(IncidentsArgs),
    /// List UDP flows: client, server address, generation, age and idle time.
    #[command(after_help = "\
Examples: hotlb flows
          hotlb flows dns --limit 20 --output json")]
    Flows(FlowsArgs),
    /// Stop all generations, the parking listeners and the agent. After that, clients are refused.
    Down,
    /// Check this host for everything that hotlb needs; report what is missing and what that costs.
    Doctor,
    /// Print a completion script for a shell.
    #[command(after_help = "Example: hotlb completions bash > /etc/bash_completion.d/hotlb")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Hold the parking listeners of a service (started by the agent).
    #[command(name = "__keep", hide = true)]
    Keep {
        /// The socket to listen on for the agent.
        #[arg(long)]
        socket: PathBuf,
        /// The cgroup to run in.
        #[arg(long)]
        cgroup: PathBuf,
    },
    /// Copy the servers' output from pipes to files (started by the agent).
    #[command(name = "__log", hide = true)]
    Log {
        /// The directory of the pipes.
        #[arg(long)]
        pipes: PathBuf,
        /// The directory of the files.
        #[arg(long)]
        files: PathBuf,
        /// The cgroup to run in.
        #[arg(long)]
        cgroup: PathBuf,
    },
    /// Become a server (started by the agent).
    #[command(name = "__exec", hide = true)]
    Shim,
    /// Become a hook (started by the agent).
    #[command(name = "__hook", hide = true)]
    Hook,
    /// Take the samples of a profile (started by the agent).
    #[command(name = "__profile", hide = true)]
    Sample,
}

/// `hotlb agent`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentArgs {
    /// What to do with the running agent.
    #[command(subcommand)]
    pub command: Option<AgentCommand>,
    /// The configuration file [default: `HOTLB_CONFIG`, else /etc/hotlb/hotlb.toml].
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Write the log as JSON, one value per line.
    #[arg(long)]
    pub log_json: bool,
    /// Take over from the agent whose socket is stdin (started by that agent).
    #[arg(long, hide = true)]
    pub take_over: bool,
}

/// Verbs for the agent itself.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Replace the running agent with another hotlb binary. Generations, connections and counts
    /// continue; if anything fails, the running agent stays in charge.
    #[command(after_help = "\
Examples: hotlb agent upgrade              after a package upgrade or a configuration change
          hotlb agent upgrade ./target/release/hotlb")]
    Upgrade(UpgradeAgentArgs),
}

/// `hotlb agent upgrade`.
#[derive(Debug, Args)]
pub struct UpgradeAgentArgs {
    /// The hotlb binary to upgrade to [default: the path that the agent was started from].
    pub binary: Option<PathBuf>,
    /// The configuration file of the new agent [default: that of the running agent].
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
    /// Health check: the path at which a GET must return 200 to 399 [default: a TCP connect].
    #[arg(long, value_name = "PATH")]
    pub health: Option<String>,
    /// The user to run the server as [default: root].
    #[arg(long)]
    pub user: Option<String>,
    /// The address to serve Prometheus metrics on [default: none].
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// The server command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Which service.
#[derive(Clone, Debug, Args)]
pub struct ServiceArgs {
    /// The service; optional if there is only one.
    #[arg(long, short)]
    pub service: Option<String>,
}

/// Which generation.
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The name of the generation, as shown by `hotlb status`.
    pub generation: String,
}

/// In whose trace.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct TraceArgs {
    /// The parent span of the rollout's trace, in W3C Trace Context format [default: the
    /// environment variable TRACEPARENT, if it is valid].
    #[arg(long, value_name = "TRACEPARENT")]
    traceparent: Option<TraceParent>,
}

impl TraceArgs {
    /// The caller's span. A value of the environment may be anybody's: if it cannot be read,
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
    /// answering in this time, it is rolled back [default: the service's `bake`].
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub bake: Option<Duration>,
    /// How long to keep the former generation for a rollback [default: the service's `keep`].
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub keep: Option<Duration>,
    /// An additional hook, run by /bin/sh in phase `pre_load`, `validate`, `swap` or
    /// `post_rollback`; may be repeated. Only for root.
    #[arg(long, value_name = "PHASE=COMMAND")]
    pub hook: Vec<Hook>,
    /// Return as soon as the traffic has moved; the rollout continues.
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
    /// If the active generation has to end first (mode = "parked"), end it even if it could not be
    /// started again.
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
    /// The generation to return to, as shown by `hotlb status`; started again if it has ended
    /// [default: the previously active one].
    #[arg(long, value_name = "GENERATION")]
    pub to: Option<String>,
    /// Start the generation again even if its program is another file now.
    #[arg(long)]
    pub anyway: bool,
    /// Return as soon as the traffic has moved; the drain continues.
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
    /// Stop the generation even if it is active; new clients wait until another one is promoted.
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
    /// The name of the new generation [default: genN].
    #[arg(long, short)]
    pub generation: Option<String>,
    /// How long the generation may take to become ready [default: the service's `ready_timeout`].
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// A variable to add to the server's environment; may be repeated.
    #[arg(long, value_parser = key_value, value_name = "NAME=VALUE")]
    pub env: Vec<(String, String)>,
    /// The server command and its arguments.
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
    /// The name of the new generation; that of an ended one can be reused [default: genN].
    #[arg(long, short)]
    pub generation: Option<String>,
    /// A variable to add to the server's environment; may be repeated.
    #[arg(long, value_parser = key_value, value_name = "NAME=VALUE")]
    pub env: Vec<(String, String)>,
    /// The server command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `hotlb adopt`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("server").required(true))]
pub struct AdoptArgs {
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    /// The name of the new generation [default: genN].
    #[arg(long, short)]
    pub generation: Option<String>,
    /// The first process of the running server (nginx: the master).
    #[arg(long, group = "server")]
    pub pid: Option<u32>,
    /// The systemd unit of the running server.
    #[arg(long, group = "server")]
    pub unit: Option<String>,
    /// The command that starts the server again if a rollback needs it after it has ended
    /// [default: the server's own command line].
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
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
