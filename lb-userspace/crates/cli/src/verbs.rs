//! What each verb asks of the agent.

use std::{io, path::PathBuf, time::Duration};

use hotlb_api::{
    client::{Client, ClientError},
    wire::{
        AdoptRequest, DeployRequest, Done, ExecAnswer, ExecRequest, Failure, PromoteRequest,
        RollbackRequest, RolloutOptions, Status, StopRequest, UpgradeRequest,
    },
};
use hotlb_core::config::Places;
use hotlb_sys::{clock, mounts};
use serde_json::json;

use super::{
    args::{AdoptArgs, Command, DeployArgs, ExecArgs, RolloutArgs, ServiceArgs, UpgradeArgs},
    flows, history, incidents,
    output::Printer,
    profile, status,
    typed::here,
};

/// Does what a verb says, through the agent. Verbs without an agent are not for here.
pub async fn execute(
    command: &Command,
    client: &Client,
    printer: &Printer,
) -> Result<(), ClientError> {
    let done = match command {
        Command::Deploy(args) => deploy(args, client, printer).await?,
        Command::Upgrade(args) => upgrade(args, client, printer).await?,
        Command::Promote(args) => {
            let request = PromoteRequest {
                generation: args.target.generation.clone(),
                options: options(&args.rollout),
            };
            let path = path(args.target.service(), "promote")?;
            let client = client.within(args.rollout.trace.parent());
            client
                .verb(&path, &request, |step| printer.progress(step))
                .await?
        }
        Command::Stop(args) => {
            let request = StopRequest {
                generation: args.target.generation.clone(),
                park: args.park,
            };
            let path = path(args.target.service(), "stop")?;
            client
                .verb(&path, &request, |step| printer.progress(step))
                .await?
        }
        Command::Adopt(args) => adopt(args, client, printer).await?,
        Command::Rollback(args) => {
            let request = RollbackRequest {
                to: args.to.clone(),
                anyway: args.anyway,
                no_wait: args.no_wait,
            };
            let path = path(&args.service, "rollback")?;
            let client = client.within(args.trace.parent());
            client
                .verb(&path, &request, |step| printer.progress(step))
                .await?
        }
        Command::Down => {
            let nothing = json!({});
            let ended = client.verb("/v1/down", &nothing, |step| printer.progress(step));
            ended.await.map_err(|error| match error {
                ClientError::NoAgent { path, source } => {
                    let places = Places::from_env();
                    let root = mounts::cgroup2().unwrap_or_else(|_none| "/sys/fs/cgroup".into());
                    ClientError::NoAgentToEnd {
                        cgroup: root.join(&places.cgroup),
                        bpffs: places.bpffs,
                        path,
                        source,
                    }
                }
                error => error,
            })?
        }
        Command::Status(args) => return show(args, client, printer).await,
        Command::Profile(args) => return profile::execute(args, client, printer).await,
        Command::History(args) => return history::execute(args, client, printer).await,
        Command::Flows(args) => return flows::execute(args, client, printer).await,
        Command::Incidents(args) => return incidents::execute(args, client, printer).await,
        Command::Agent(_)
        | Command::Run(_)
        | Command::Doctor
        | Command::Completions { .. }
        | Command::Keep { .. }
        | Command::Log { .. }
        | Command::Exec(_)
        | Command::Shim
        | Command::Hook
        | Command::Sample => return Ok(()),
    };
    printer.done(&done).map_err(cannot_print)
}

/// Starts a generation and makes it active, as one rollout.
pub async fn upgrade(
    args: &UpgradeArgs,
    client: &Client,
    printer: &Printer,
) -> Result<Done, ClientError> {
    let request = UpgradeRequest {
        deploy: deployment(&args.deploy)?,
        options: options(&args.rollout),
        anyway: args.anyway,
    };
    let path = path(args.deploy.service(), "upgrade")?;
    let client = client.within(args.rollout.trace.parent());
    client
        .verb(&path, &request, |step| printer.progress(step))
        .await
}

async fn deploy(
    args: &DeployArgs,
    client: &Client,
    printer: &Printer,
) -> Result<Done, ClientError> {
    let path = path(args.service(), "deploy")?;
    client
        .verb(&path, &deployment(args)?, |step| printer.progress(step))
        .await
}

fn deployment(args: &DeployArgs) -> Result<DeployRequest, ClientError> {
    Ok(DeployRequest {
        generation: args.generation.clone(),
        command: args.command.clone(),
        cwd: here()?,
        env: args.env.iter().cloned().collect(),
        timeout_ms: args.timeout.map(millis),
    })
}

fn options(args: &RolloutArgs) -> RolloutOptions {
    RolloutOptions {
        bake_ms: args.bake.map(millis),
        keep_ms: args.keep.map(millis),
        hooks: args.hook.clone(),
        no_wait: args.no_wait,
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn adopt(args: &AdoptArgs, client: &Client, printer: &Printer) -> Result<Done, ClientError> {
    let request = AdoptRequest {
        generation: args.generation.clone(),
        pid: args.pid,
        unit: args.unit.clone(),
        command: args.command.clone(),
        // Without a command it is the server's own that counts.
        cwd: if args.command.is_empty() {
            PathBuf::from("/")
        } else {
            here()?
        },
    };
    let path = path(&args.service, "adopt")?;
    client
        .verb(&path, &request, |step| printer.progress(step))
        .await
}

/// Has the agent enter this process as a generation; what it says is still to be done.
pub async fn enter(args: &ExecArgs, client: &Client) -> Result<ExecAnswer, ClientError> {
    let request = ExecRequest {
        generation: args.generation.clone(),
        command: args.command.clone(),
        has_notify_socket: std::env::var_os("NOTIFY_SOCKET").is_some(),
    };
    let path = path(&args.service, "exec")?;
    client.ask(&path, &request).await
}

async fn show(args: &ServiceArgs, client: &Client, printer: &Printer) -> Result<(), ClientError> {
    let mut status = client.status().await?;
    if let Some(name) = &args.service {
        only(&mut status, name)?;
    }
    printer
        .value(&status, || status::table(&status, clock::unix_millis()))
        .map_err(cannot_print)
}

fn only(status: &mut Status, name: &str) -> Result<(), ClientError> {
    let known: Vec<String> = status.services.iter().map(|s| s.name.clone()).collect();
    status.services.retain(|service| service.name == name);
    if status.services.is_empty() {
        return Err(unknown_service(name, &known));
    }
    Ok(())
}

/// "-" is the only service there is.
pub(super) fn path(args: &ServiceArgs, verb: &str) -> Result<String, ClientError> {
    let service = args.service.as_deref().unwrap_or("-");
    Ok(format!("/v1/services/{}/{verb}", checked(service)?))
}

/// The name as it is, if it can be one.
pub(super) fn checked(service: &str) -> Result<&str, ClientError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if service.is_empty() || !service.chars().all(is_name) {
        return Err(unknown_service(service, &[]));
    }
    Ok(service)
}

fn unknown_service(name: &str, known: &[String]) -> ClientError {
    let known = if known.is_empty() {
        "`hotlb status` lists the services".to_owned()
    } else {
        format!("existing services: {}", known.join(", "))
    };
    ClientError::Refused(Failure {
        code: "unknown_service".to_owned(),
        message: format!("no service {}; {known}", name.escape_debug()),
        exit: 5,
    })
}

pub(super) fn cannot_print(error: io::Error) -> ClientError {
    ClientError::Unprinted(error)
}
