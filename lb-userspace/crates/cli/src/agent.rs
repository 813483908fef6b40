//! `hotlb agent upgrade`.

use std::path::{Path, PathBuf};

use hotlb_api::{
    client::{Client, ClientError},
    wire::{AgentUpgradeRequest, Failure},
};

use super::{args::UpgradeAgentArgs, output::Printer, typed::text};

/// Has the agent replaced by another one.
pub async fn upgrade_agent(
    args: &UpgradeAgentArgs,
    client: &Client,
    printer: &Printer,
) -> Result<(), ClientError> {
    let request = AgentUpgradeRequest {
        binary: whole(args.binary.as_deref(), "the program")?,
        config: whole(args.config.as_deref(), "the configuration")?,
    };
    let result = client
        .verb("/v1/agent/upgrade", &request, |step| printer.progress(step))
        .await;
    let done = match result {
        Err(ClientError::Broken(why)) => return Err(died(client, &why).await),
        result => result?,
    };
    let printed = printer.done(&done);
    printed.map_err(ClientError::Unprinted)
}

/// Relative paths are meant from here, not from where the agent is.
fn whole(path: Option<&Path>, what: &str) -> Result<Option<PathBuf>, ClientError> {
    let whole = path.map(|path| std::path::absolute(path).unwrap_or_else(|_empty| path.to_owned()));
    whole.map(|path| text(path, what)).transpose()
}

/// The agent died while it was being upgraded. Says who is in charge now.
async fn died(client: &Client, why: &str) -> ClientError {
    let now = match client.status().await {
        Ok(status) => format!(
            "agent {} (pid {}) is in charge now",
            status.version, status.pid
        ),
        Err(ClientError::NoAgent { .. }) => {
            "no agent is in charge now (traffic continues); start one with `hotlb agent`".to_owned()
        }
        Err(error) => error.to_string(),
    };
    ClientError::Refused(Failure {
        code: "agent_died".to_owned(),
        message: format!("the agent died during the upgrade ({why}); {now}"),
        exit: 1,
    })
}
