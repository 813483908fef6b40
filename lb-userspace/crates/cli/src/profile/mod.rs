//! `hotlb profile`.

mod diff;
mod file;
#[cfg(test)]
mod fixture;
pub(super) mod output;
mod tables;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use hotlb_api::{
    client::{Client, ClientError},
    wire::{Done, Failure, Measure, Profile, ProfileRequest, Progress, Unwind},
};
use hotlb_sys::clock;

use self::output::{Format, render};
pub(super) use self::{file::Target, tables::show as table};
use super::{
    args::ServiceArgs,
    output::{Printer, script},
    verbs::{cannot_print, millis, path},
};

/// `hotlb profile`.
#[derive(Clone, Debug, Args)]
pub struct ProfileArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The name of the generation, as shown by `hotlb status`; two names with --diff.
    #[arg(required = true, num_args = 1..=2, value_name = "GENERATION")]
    generations: Vec<String>,
    /// Sample two generations at the same time and show what changed from the first to the second.
    #[arg(long)]
    diff: bool,
    /// Sample where threads wait instead of where they use CPU time.
    #[arg(long, conflicts_with = "diff")]
    off_cpu: bool,
    /// How long to sample, 1s to 5m.
    #[arg(long = "for", default_value = "10s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    duration: Duration,
    /// Samples per second of CPU time (with --off-cpu: of each thread's waiting), 1 to 999.
    #[arg(long, default_value_t = 99, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=999))]
    frequency: u32,
    /// How to find the callers of a function (stack unwinding).
    #[arg(long, value_enum, default_value_t)]
    unwind: Unwind,
    /// Do not sample now: show the profile that is kept of the last minutes, also of a generation
    /// that has ended. Needs `continuous` in the service's `profile` table.
    #[arg(
        long,
        value_parser = humantime::parse_duration,
        value_name = "DURATION",
        conflicts_with_all = ["off_cpu", "duration", "frequency", "unwind", "force"]
    )]
    last: Option<Duration>,
    /// Sample even if sampling is known to have stopped hosts on this kernel.
    #[arg(long)]
    force: bool,
    /// The file format [default: from the name of the file: .svg, .folded or .txt, .pb.gz or
    /// .pprof, .json].
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The file, from `--output`.
    #[arg(skip)]
    pub file: Option<PathBuf>,
}

/// Has the agent sample, and writes or shows the result.
pub(super) async fn execute(
    args: &ProfileArgs,
    client: &Client,
    printer: &Printer,
) -> Result<(), ClientError> {
    check(args)?;
    let target = target(args.file.as_deref(), args.format)?;
    let request = ProfileRequest {
        generations: args.generations.clone(),
        duration_ms: millis(args.duration),
        measure: if args.off_cpu {
            Measure::Waiting
        } else {
            Measure::Cpu
        },
        frequency: args.frequency,
        unwind: args.unwind,
        last_ms: args.last.map(millis),
        force: args.force,
    };
    printer.progress(&Progress {
        step: step(args),
        remaining: None,
    });
    let path = path(&args.service, "profile")?;
    let profile: Profile = client.ask(&path, &request).await?;
    refuse_empty(&profile)?;
    let Some((target, format)) = target else {
        return printer
            .value(&profile, || tables::show(&profile))
            .map_err(cannot_print);
    };
    let bytes = render(&profile, format, clock::unix_millis()).map_err(|error| {
        failed(
            "not_rendered",
            format!("cannot render the profile: {error}"),
            1,
        )
    })?;
    printer.clear();
    match target {
        Target::Stdout => script(&bytes).map_err(cannot_print),
        Target::File(file) => {
            let name = file.write(&bytes)?;
            let said = tables::summary(&profile);
            let message = format!("{said}\nwritten to {}", name.display());
            let done = Done {
                message,
                ..Done::default()
            };
            printer.done(&done).map_err(cannot_print)
        }
    }
}

fn step(args: &ProfileArgs) -> String {
    let generations = args.generations.join(" and ");
    match args.last {
        Some(_) => format!("reading the profile kept of {generations}"),
        None => format!(
            "sampling {generations} for {}",
            humantime::format_duration(args.duration)
        ),
    }
}

fn check(args: &ProfileArgs) -> Result<(), ClientError> {
    match (args.diff, args.generations.len()) {
        (true, 1) => Err(usage(
            "--diff needs two generations: the one before, the one after",
        )),
        (false, 2) => Err(usage("name one generation, or use --diff to compare two")),
        _ => Ok(()),
    }
}

/// Where the result goes and how; `None`: a table, or JSON if that is how to print.
pub(super) fn target(
    file: Option<&Path>,
    format: Option<Format>,
) -> Result<Option<(Target, Format)>, ClientError> {
    let Some(path) = file else {
        return Ok(format.map(|format| (Target::Stdout, format)));
    };
    if path.as_os_str() == "-" {
        let format = format.unwrap_or(Format::Folded);
        return Ok(Some((Target::Stdout, format)));
    }
    let Some(format) = format.or_else(|| Format::of(path)) else {
        return Err(usage(&format!(
            "cannot tell the format of {} from its name; end it in .svg, .folded, .pb.gz or .json, \
             or use --format",
            path.display()
        )));
    };
    Ok(Some((Target::at(path)?, format)))
}

/// A profile without samples shows nothing: its user has to know.
fn refuse_empty(profile: &Profile) -> Result<(), ClientError> {
    let Some(empty) = profile
        .generations
        .iter()
        .find(|sampled| sampled.samples == 0)
    else {
        return Ok(());
    };
    let mut message = if profile.measure == Measure::Waiting {
        format!(
            "no thread of {} was waiting in {} s: all were busy, or the sampling was too short",
            empty.generation,
            profile.took_ms / 1000
        )
    } else {
        format!(
            "{} used too little CPU time in {} s to be sampled: it is idle or frozen; put it under \
             load, or sample longer",
            empty.generation,
            profile.took_ms / 1000
        )
    };
    for note in &profile.notes {
        message.push_str("\n  ");
        message.push_str(note);
    }
    Err(failed("no_samples", message, 1))
}

fn usage(message: &str) -> ClientError {
    failed("usage", message.to_owned(), 2)
}

pub(super) fn failed(code: &str, message: String, exit: u8) -> ClientError {
    ClientError::Refused(Failure {
        code: code.to_owned(),
        message,
        exit,
    })
}
