//! `hotlb incidents`: what was unusual.

mod list;
mod show;
mod windows;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hotlb_api::{
    client::{Client, ClientError},
    wire::{Done, Incident, IncidentId},
};
use hotlb_sys::clock;

use super::{
    output::{Printer, script},
    profile::{
        Target, failed,
        output::{Format, render},
        target,
    },
    verbs::{cannot_print, checked},
};

/// `hotlb incidents`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct IncidentsArgs {
    /// What to do instead of listing.
    #[command(subcommand)]
    pub verb: Option<IncidentsVerb>,
    /// The service [default: all].
    #[arg(value_name = "SERVICE")]
    name: Option<String>,
    /// The same as SERVICE, in the form of the other commands.
    #[arg(long, short, conflicts_with = "name")]
    service: Option<String>,
    /// Maximum number of incidents to list, newest first.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// `hotlb incidents VERB`.
#[derive(Clone, Debug, Subcommand)]
pub enum IncidentsVerb {
    /// Print one incident in detail: reason, windows, slowest connections, functions; with -o FILE
    /// write its flame graph.
    Show(ShowArgs),
    /// Show the newest windows (one second each) and their scores.
    Windows {
        /// The service; optional if there is only one.
        #[arg(value_name = "SERVICE")]
        name: Option<String>,
        /// How many of the newest windows to show.
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        limit: usize,
    },
}

/// `hotlb incidents show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// The id of the incident, as shown by `hotlb incidents`, for example i42.
    pub id: IncidentId,
    /// The file format [default: from the name of the file: .svg, .folded or .txt, .pb.gz or
    /// .pprof, .json].
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The file, from `--output`.
    #[arg(skip)]
    pub file: Option<PathBuf>,
}

/// Lists or tells.
pub(super) async fn execute(
    args: &IncidentsArgs,
    client: &Client,
    printer: &Printer,
) -> Result<(), ClientError> {
    let printed = match &args.verb {
        Some(IncidentsVerb::Show(args)) => return tell(args, client, printer).await,
        Some(IncidentsVerb::Windows { name, limit }) => {
            let service = checked(name.as_deref().unwrap_or("-"))?;
            let mut windows = client.windows(service).await?;
            let excess = windows.windows.len().saturating_sub(*limit);
            windows.windows.drain(..excess);
            printer.value(&windows, || windows::table(&windows))
        }
        None => {
            let service = args.name.as_deref().or(args.service.as_deref());
            let service = service.map(checked).transpose()?;
            let list = client.incidents(service, args.limit).await?;
            printer.value(&list, || {
                list::table(&list.incidents, service, args.limit, clock::unix_millis())
            })
        }
    };
    printed.map_err(cannot_print)
}

async fn tell(args: &ShowArgs, client: &Client, printer: &Printer) -> Result<(), ClientError> {
    let target = target(args.file.as_deref(), args.format)?;
    let incident = client.incident(args.id).await?;
    let Some((target, format)) = target else {
        let text = || show::text(&incident, clock::unix_millis());
        return printer.value(&incident, text).map_err(cannot_print);
    };
    let bytes = rendered(&incident, format)?;
    match target {
        Target::Stdout => script(&bytes).map_err(cannot_print),
        Target::File(file) => {
            let name = file.write(&bytes)?;
            let done = Done {
                message: format!("incident {} written to {}", args.id, name.display()),
                ..Done::default()
            };
            printer.done(&done).map_err(cannot_print)
        }
    }
}

fn rendered(incident: &Incident, format: Format) -> Result<Vec<u8>, ClientError> {
    let id = incident.summary.id;
    let sampled = |profile: &&hotlb_values::profile::Profile| {
        profile
            .generations
            .iter()
            .any(|sampled| sampled.samples > 0)
    };
    let Some(profile) = incident.profile.as_ref().filter(sampled) else {
        let notes = if incident.notes.is_empty() {
            "the generation used too little CPU time to be sampled".to_owned()
        } else {
            incident.notes.join("; ")
        };
        let message = format!("incident {id} has no stacks to render: {notes}");
        return Err(failed("no_stacks", message, 1));
    };
    render(profile, format, incident.summary.at_ms).map_err(|error| {
        let message = format!("cannot render the stacks of incident {id}: {error}");
        failed("not_rendered", message, 1)
    })
}
