//! `hotlb`: composes the command line with the agent behind it.

#![forbid(unsafe_code)]

use std::{process::ExitCode, sync::Arc};

use hotlb::{
    api::{
        client::{Client, ClientError},
        wire::Failure,
    },
    cli::{self, AgentArgs, AgentCommand, Cli, Command, ExecArgs, OutputFormat, Printer, RunArgs},
    config::{AgentConfig, Config, ConfigError, LogConfig, OutputPlaces, Places, ServiceConfig},
    daemon::{self, Daemon, DaemonError, End, NotTakenOver, Signals},
    doctor,
    generation::{exec, hook, keeper, launch, output as logger, shim},
    profile::helper as sampler,
    relay,
    sys::users::Identity,
    takeover::Origin,
    telemetry::log,
};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    let mut cli = match Cli::typed() {
        Ok(cli) => cli,
        Err(wrong) => return wrong,
    };
    let output = cli.settle_output().unwrap_or_else(|usage| usage.exit());
    let Cli { command, quiet, .. } = cli;
    match command {
        Command::Keep { socket, cgroup } => {
            match keeper::keep(&keeper::KeepArgs { socket, cgroup }) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(output, "keeper", error.to_string(), 1),
            }
        }
        Command::Log {
            pipes,
            files,
            cgroup,
        } => match logger::log(OutputPlaces { pipes, files }, cgroup) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(output, "logger", error.to_string(), 1),
        },
        Command::Shim => {
            // Who reads the status pipe has been told why.
            let _told = shim::run();
            ExitCode::from(127)
        }
        Command::Hook => {
            // Who reads the status pipe has been told why.
            let _told = hook::become_hook();
            ExitCode::from(127)
        }
        Command::Sample => match sampler::run() {
            Ok(()) => ExitCode::SUCCESS,
            // Who reads it has gone.
            Err(_unread) => ExitCode::FAILURE,
        },
        Command::Exec(args) => exec(&args, output),
        Command::Completions { shell } => match cli::script(&cli::completions(shell)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(output, "stdout", error.to_string(), 1),
        },
        Command::Doctor => doctor::run(&Places::from_env(), &Printer::new(output, quiet)),
        command => match Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
        {
            Ok(runtime) => {
                let code = dispatch(&runtime, &command, output, quiet);
                // Whoever waits for a disk that says nothing does not hold up the end.
                runtime.shutdown_background();
                code
            }
            Err(error) => fail(output, "runtime", format!("cannot start: {error}"), 7),
        },
    }
}

fn dispatch(runtime: &Runtime, command: &Command, output: OutputFormat, quiet: bool) -> ExitCode {
    let printer = Printer::new(output, quiet);
    let places = Places::from_env();
    let result = match command {
        Command::Agent(args) => {
            printer.clear();
            if let Some(AgentCommand::Upgrade(args)) = &args.command {
                let client = Client::new(&places.socket());
                let upgraded = runtime.block_on(cli::upgrade_agent(args, &client, &printer));
                return ended(upgraded.map_err(Failed::Client), output);
            }
            let mut places = places;
            if let Some(config) = &args.config {
                places.config.clone_from(config);
            }
            runtime.block_on(agent(args, places))
        }
        Command::Run(args) => {
            log::start(&LogConfig {
                level: "warn".to_owned(),
                ..LogConfig::default()
            });
            runtime.block_on(run(args, places, &printer))
        }
        command => {
            let client = Client::new(&places.socket());
            runtime
                .block_on(cli::execute(command, &client, &printer))
                .map_err(Failed::Client)
        }
    };
    printer.clear();
    // Tasks that wait for generations must not hold up the end.
    ended(result, output)
}

fn ended(result: Result<(), Failed>, output: OutputFormat) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let failure = error.to_failure();
            cli::failure(output, &failure);
            ExitCode::from(failure.exit)
        }
    }
}

/// A name that cannot be one, several services and none named.
const WRONG_USAGE: u8 = 2;
/// The same of `hotlb exec`, whose command line is a unit's: a supervisor is told by it not to try
/// again (`RestartPreventExitStatus=`). Servers exit with 2 too, with 78 for no other reason.
const NEVER_RIGHT: u8 = 78;

/// Becomes a server; comes back only when that failed.
fn exec(args: &ExecArgs, output: OutputFormat) -> ExitCode {
    let cwd = std::env::current_dir().unwrap_or_default();
    let program = match launch::find(&args.command, &cwd) {
        Ok(program) => program,
        Err(error) => return fail(output, "not_started", error.to_string(), 1),
    };
    let arguments: Vec<String> = args.command.iter().skip(1).cloned().collect();
    let client = Client::new(&Places::from_env().socket());
    let entered = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| fail(output, "runtime", format!("cannot start: {error}"), 7))
        .and_then(|runtime| {
            let entered = runtime.block_on(cli::enter(args, &client));
            entered.map_err(|error| {
                let mut failure = error.to_failure();
                if failure.exit == WRONG_USAGE {
                    failure.exit = NEVER_RIGHT;
                }
                cli::failure(output, &failure);
                ExitCode::from(failure.exit)
            })
        });
    match entered {
        Ok(spec) => {
            let own = args.env.iter().cloned().collect();
            let error = exec::become_server(&spec, &program, &arguments, &own);
            let message = format!("{} was not started: {error}", spec.generation);
            fail(output, "not_started", message, 1)
        }
        Err(code) => code,
    }
}

/// The agent, until a signal, `down` or a successor.
async fn agent(args: &AgentArgs, places: Places) -> Result<(), Failed> {
    let origin = Origin::of_this_process(args.log_json);
    let mut daemon = if args.take_over {
        daemon::take_over(origin).await.map_err(Failed::TakeOver)?
    } else {
        let config = Config::read(&places.config).map_err(Failed::Config)?;
        log::start(&origin.logs(&config.agent.log));
        Daemon::start(places, config.agent, config.services, Some(origin)).await?
    };
    daemon
        .ended(&mut Signals::catch().map_err(Failed::Daemon)?)
        .await?;
    Ok(())
}

/// Agent, service and first generation; Ctrl-C ends them all.
async fn run(args: &RunArgs, places: Places, printer: &Printer) -> Result<(), Failed> {
    let service = run_service(args).map_err(Failed::Config)?;
    let config = AgentConfig {
        metrics: args.metrics,
        ..AgentConfig::default()
    };
    let client = Client::new(&places.socket());
    // Whoever ends it while it starts wants nothing left either.
    let mut signals = Signals::catch().map_err(Failed::Daemon)?;
    let mut daemon = Daemon::start(places, config, vec![service], None).await?;
    let agent = Arc::clone(daemon.agent());
    let first = cli::UpgradeArgs::of(args.command.clone());
    let serving = async {
        let done = cli::upgrade(&first, &client, printer).await?;
        // Nobody may be there to read it; that is no reason to end.
        let _gone = printer.done(&done);
        relay::outputs(&agent).await;
        Ok(())
    };
    let end = tokio::select! {
        end = daemon.ended(&mut signals) => end.map_err(Failed::Daemon),
        served = serving => served.map(|()| End::Signal).map_err(Failed::Client),
    };
    printer.clear();
    if !matches!(end, Ok(End::Down))
        && let Err(error) = agent.down().await
    {
        tracing::error!(%error, "failed to clean up after the service");
    }
    end.map(drop)
}

fn run_service(args: &RunArgs) -> Result<ServiceConfig, ConfigError> {
    let mut service = ServiceConfig::new(&args.service, args.listen.clone())?;
    if let Some(path) = &args.health {
        service.ask_for(path.clone())?;
    }
    if let Some(user) = &args.user {
        service.identity =
            Identity::resolve(user, None).map_err(|source| ConfigError::Identity {
                service: args.service.clone(),
                source,
            })?;
    }
    Ok(service)
}

/// Why a command failed.
enum Failed {
    Config(ConfigError),
    Daemon(DaemonError),
    TakeOver(NotTakenOver),
    Client(ClientError),
}

impl From<DaemonError> for Failed {
    fn from(error: DaemonError) -> Self {
        Self::Daemon(error)
    }
}

impl Failed {
    fn to_failure(&self) -> Failure {
        match self {
            Self::Config(error) => Failure {
                code: "config".to_owned(),
                message: error.to_string(),
                exit: 78,
            },
            Self::Daemon(error) => Failure {
                code: "agent".to_owned(),
                message: error.to_string(),
                exit: error.exit(),
            },
            Self::TakeOver(error) => Failure {
                code: "agent".to_owned(),
                message: error.to_string(),
                exit: error.exit(),
            },
            Self::Client(error) => error.to_failure(),
        }
    }
}

fn fail(output: OutputFormat, code: &str, message: String, exit: u8) -> ExitCode {
    let failure = Failure {
        code: code.to_owned(),
        message,
        exit,
    };
    cli::failure(output, &failure);
    ExitCode::from(exit)
}
