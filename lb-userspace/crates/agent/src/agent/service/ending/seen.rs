//! What came of the connections that were open when a server was told to end.

use std::time::{Duration, Instant};

use lb_common::GenerationId;

use super::{super::find::own_cgroup, Judged, Teller};
use crate::{
    clock::{self, Deadline},
    config::DrainPolicy,
    datapath::{self, Losses},
    generation::established,
    rollout::{
        habit::{self, Before, Habits, Outcome, Seen, Since},
        recipe::{Ground, Recipe},
    },
    sys::{established::State, tcp_info::TcpInfo},
};

/// How long the kernel may take to count what ended with its server.
const COUNTED: Duration = Duration::from_millis(20);

/// The connections of a generation at the moment of its signal.
#[derive(Debug)]
pub(in crate::agent::service) struct Watched {
    before: Before,
    losses: Losses,
    at: Instant,
}

impl Teller {
    /// Looks at a generation's connections, right before its signal. `None` where there are none,
    /// or what comes of them is known beforehand, or cannot be known.
    pub(in crate::agent::service) async fn watch_connections(
        &self,
        id: GenerationId,
        recipe: &Recipe,
    ) -> Option<Watched> {
        if !recipe.is_to_be_seen() || self.path.live(Some(id)) == 0 {
            return None;
        }
        let cgroup = own_cgroup(&self.state, id).await?;
        let ports = self.ports();
        let counts = self.path.connections(Some(id));
        let moved = counts.moved_in > 0;
        let looking = tokio::task::spawn_blocking(move || {
            // The first time all of the kernel's types are read for it.
            datapath::knows_losses()
                .then(|| established::find_detailed(&cgroup, &ports, moved).ok())
                .flatten()
        });
        let found = looking.await.ok().flatten()?;
        let mut before = Before::default();
        for (connection, info) in found {
            match (connection.state, info) {
                (State::Established, Some(info)) if waits(&info) => before.waiting += 1,
                (State::Established, Some(info))
                    if info.unacknowledged == 0 && info.unsent == 0 => {}
                _ => before.moving += 1,
            }
        }
        Some(Watched {
            before,
            losses: self.path.connections(Some(id)).lost,
            at: clock::now(),
        })
    }

    /// Remembers what came of them; `ended`: the server has ended by itself, before its deadline.
    pub(in crate::agent::service) async fn note_outcome(
        &self,
        id: GenerationId,
        judged: &Judged,
        watched: Watched,
        ended: bool,
    ) {
        let Some(server) = judged.judged() else {
            return;
        };
        if ended {
            let counted = Deadline::after(COUNTED);
            tokio::time::sleep_until(counted.instant()).await;
        }
        let lost = self.path.connections(Some(id)).lost.since(watched.losses);
        let since = Since {
            lost: lost.queued + lost.unanswered + lost.mid_response,
            abandoned: lost.abandoned,
            ended,
        };
        let Some(outcome) = habit::outcome(watched.before, since) else {
            return;
        };
        let signal = judged.recipe.signal;
        let mut registry = self.state.lock().await;
        let Some(generation) = registry.get_mut(id) else {
            return;
        };
        let seen = match outcome {
            Outcome::Finished => Some(Seen::Finishes),
            Outcome::Unclear => None,
            Outcome::Cut(connections) => {
                let drain = generation.drain();
                let after = drain.map_or(Duration::ZERO, |drain| watched.at - drain.began());
                let advice = advice(&self.config.drain, judged, connections, after);
                generation.end_mut().note_signal_cut(advice);
                Some(Seen::Cuts {
                    connections,
                    generation: generation.name().to_owned(),
                    after,
                })
            }
        };
        tracing::info!(
            service = self.name(),
            generation = generation.name(),
            program = server.program.name,
            %signal,
            ?outcome,
            "observed what the signal did to connections"
        );
        let (program, signal) = (server.program.key(), signal.as_str());
        match seen {
            Some(seen) => registry
                .sums_mut()
                .habits_mut()
                .note(program, signal.to_owned(), seen),
            None => registry.sums_mut().habits_mut().doubt(&program, signal),
        }
        self.state.settle(&registry);
    }
}

fn advice(policy: &DrainPolicy, judged: &Judged, connections: u64, after: Duration) -> String {
    let after = Duration::from_millis(clock::millis(after));
    let trusted = judged.recipe.ground == Ground::Trusted;
    cut_by(judged.recipe.signal.as_str(), connections, after)
        + &what_to_do(
            policy,
            &judged.program(),
            judged.recipe.signal.as_str(),
            trusted,
        )
}

fn what_to_do(policy: &DrainPolicy, program: &str, signal: &str, trusted: bool) -> String {
    let key = match (policy.signal_after, trusted) {
        (Some(set), _) => format!(
            "raise drain.signal_after ({})",
            humantime::format_duration(set)
        ),
        (None, true) => "choose another signal with drain.signal".to_owned(),
        (None, false) => "set drain.signal_after, or drain.signal".to_owned(),
    };
    format!(
        "; hotlb now delays this signal until drain.deadline: make {program} finish its \
         connections on {signal}, or {key}"
    )
}

/// What signals cut of generations that are still known, for `status`.
pub(in crate::agent::service) fn cut_warnings(
    policy: &DrainPolicy,
    habits: &Habits,
    is_known: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (program, signal, connections, generation, after) in habits.cuts() {
        let other = policy.signal.is_some_and(|set| set.as_str() != signal);
        let later = policy.signal_after.is_some_and(|set| set > after);
        if is_known(generation) && !other && !later {
            let name = program.rsplit('/').next().unwrap_or(program);
            let trusted = policy.signal.is_some();
            warnings.push(format!(
                "{generation}: {}{}",
                cut_by(signal, connections, after),
                what_to_do(policy, name, signal, trusted)
            ));
        }
    }
    warnings
}

/// A request came, and none of its answer was sent.
fn waits(info: &TcpInfo) -> bool {
    info.bytes_received > 0 && info.request_waits()
}

fn cut_by(signal: &str, connections: u64, after: Duration) -> String {
    let after = Duration::from_millis(clock::millis(after));
    format!(
        "{signal} cut {connections} connections in the middle of their requests, {} into its drain",
        humantime::format_duration(after)
    )
}
