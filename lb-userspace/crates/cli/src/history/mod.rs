//! `hotlb history`: the rollouts that were.

mod list;
mod record;
mod show;
pub(super) mod words;

use clap::{Args, Subcommand};
use hotlb_api::{
    client::{Client, ClientError},
    wire::RolloutId,
};
use hotlb_sys::clock;

use super::{
    args::ServiceArgs,
    output::Printer,
    verbs::{cannot_print, checked},
};

/// `hotlb history`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct HistoryArgs {
    /// What to do instead of listing.
    #[command(subcommand)]
    pub verb: Option<HistoryVerb>,
    #[command(flatten)]
    service: ServiceArgs,
    /// Maximum number of rollouts to list, newest first.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// `hotlb history VERB`.
#[derive(Clone, Debug, Subcommand)]
pub enum HistoryVerb {
    /// Print one rollout in detail: phases, hooks and their output, checks, figures, cut
    /// connections.
    Show {
        /// The id of the rollout, as shown by `hotlb history`, for example r42.
        id: RolloutId,
    },
}

/// Lists or tells.
pub(super) async fn execute(
    args: &HistoryArgs,
    client: &Client,
    printer: &Printer,
) -> Result<(), ClientError> {
    let printed = match &args.verb {
        Some(HistoryVerb::Show { id }) => {
            let told = client.rollout(*id).await?;
            printer.value(&told, || show::text(&told, clock::unix_millis()))
        }
        None => {
            let service = args.service.service.as_deref();
            let service = service.map(checked).transpose()?;
            let history = client.history(service, args.limit).await?;
            printer.value(&history, || {
                list::table(&history.rollouts, service, args.limit, clock::unix_millis())
            })
        }
    };
    printed.map_err(cannot_print)
}
