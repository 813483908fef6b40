//! Where what a generation writes goes.

use std::{fs::File, io, path::Path, sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;

use super::{Context, beside::beside, shared::SharedState};
use crate::{
    agent::footing::{self, Support},
    generation::{
        output::{self, LastWords, Outlet},
        shim::LaunchSpec,
    },
    sys::{cgroup::Cgroup, reader},
};

/// How often outputs are looked after.
const TEND: Duration = Duration::from_secs(1);
/// Lines of a server's output that an error shows.
const OUTPUT_LINES: usize = 8;
/// Bytes of a file that a server writes itself, before it is turned over.
const OUTPUT: u64 = 16 * 1024 * 1024;
/// Processes of a generation that are looked at for the pipe of its output.
const HOLDERS: usize = 16;

/// The pipe that a server is to write to. Without one its output is the file itself.
pub(super) fn open(context: &Context, spec: &mut LaunchSpec) -> Option<Outlet> {
    let places = context.places.outputs();
    let name = spec.output.file_stem()?.to_str()?;
    let pipe = places.pipe(context.name(), name);
    match Outlet::make(&places, &pipe, spec.uid, spec.gid) {
        Ok(outlet) => {
            spec.pipe = Some(pipe);
            Some(outlet)
        }
        Err(error) => {
            tracing::error!(
                service = context.name(),
                %error,
                "failed to create a pipe for the output of a server; the server writes the file itself"
            );
            None
        }
    }
}

/// The last that it wrote.
pub(super) fn last_lines(context: &Context, generation: &str) -> Vec<String> {
    reader::last_lines(
        &context.places.output(context.name(), generation),
        OUTPUT_LINES,
    )
    .unwrap_or_default()
}

/// What a generation writes last.
pub(super) fn last_words(context: &Context, generation: &str) -> LastWords {
    LastWords::of(&context.places.outputs().pipe(context.name(), generation))
}

/// Looks after what its generations write, once a second; less often where a disk takes longer.
pub(super) async fn keep(context: &Arc<Context>, state: &SharedState) {
    let mut turns = tokio::time::interval(TEND);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let outputs: Vec<_> = state
            .look(|registry| {
                let living = registry.living();
                living
                    .map(|g| (g.name().to_owned(), g.cgroup().clone()))
                    .collect()
            })
            .await;
        let of = Arc::clone(context);
        // If it breaks, so does this, which is kept up.
        beside(move || {
            for (generation, cgroup) in outputs {
                tend(&of, &generation, &cgroup);
            }
        })
        .await;
    }
}

fn tend(context: &Context, generation: &str, cgroup: &Cgroup) {
    let places = context.places.outputs();
    turn_over(&places.file(context.name(), generation));
    let pipe = places.pipe(context.name(), generation);
    if pipe.exists() {
        return;
    }
    match output::name_again(&pipe, cgroup.pids().into_iter().take(HOLDERS)) {
        Ok(false) => {}
        Ok(true) => {
            let what = format!("the name {} of an output pipe", pipe.display());
            footing::restored(Support::Logger, what);
        }
        Err(error) => {
            tracing::warn!(
                %error,
                pipe = %pipe.display(),
                "failed to restore the name of an output pipe"
            );
        }
    }
}

/// Moves the large output of a server that writes its file itself aside: a copy, then to length zero,
/// for the server appends and is not asked to open it again. The logger's files do not get so large.
fn turn_over(output: &Path) {
    let is_large = || output.metadata().is_ok_and(|file| file.len() > OUTPUT);
    if !is_large() {
        return;
    }
    let turned = || {
        let mut whole = File::options().read(true).write(true).open(output)?;
        let mut aside = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(reader::aside(output))?;
        // A thread of the agent before may be at it still.
        if aside.try_lock().is_err() || !is_large() {
            return Ok(());
        }
        aside.set_permissions(whole.metadata()?.permissions())?;
        aside.set_len(0)?;
        io::copy(&mut whole, &mut aside)?;
        whole.set_len(0)
    };
    if let Err(error) = turned() {
        tracing::warn!(
            %error,
            output = %output.display(),
            "failed to rotate the output file of a server"
        );
    }
}
