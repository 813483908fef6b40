//! How many connections there were, and how long their clients waited.

use super::{super::registry::Generation, snapshot::Snapshot};
use crate::datapath::{ConnectionCounts, Latencies, ServicePath};

/// All connections the generation has had.
pub(in crate::agent::service) fn connections(
    path: &ServicePath,
    generation: &Generation,
) -> ConnectionCounts {
    let counts = generation.counts();
    if counts.is_unseated() {
        return counts.counted();
    }
    path.connections(Some(generation.id()))
        .plus(counts.counted())
}

/// How long its clients waited, unless its seat is another's by now.
pub(super) fn latencies(path: &ServicePath, generation: &Generation) -> Option<Latencies> {
    (!generation.counts().is_unseated()).then(|| path.latencies(Some(generation.id())))
}

/// All connections the service has had: those of its generations, forgotten ones included, and
/// those that its parking listeners took.
pub(super) fn totals(snapshot: &Snapshot) -> ConnectionCounts {
    let all = snapshot.generations.iter().map(|seen| seen.connections);
    let all = all.chain([snapshot.retired, snapshot.parked_connections]);
    all.fold(ConnectionCounts::default(), |total, counts| {
        ConnectionCounts {
            live: total.live + counts.live,
            ..total.plus(counts)
        }
    })
}

/// How long the clients of all of them waited.
pub(super) fn all_latencies(snapshot: &Snapshot) -> Latencies {
    let mut all = snapshot.parked_latencies.clone();
    all.add(&snapshot.past);
    for seen in &snapshot.generations {
        if let Some(measured) = &seen.latencies {
            all.add(measured);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use lb_common::GenerationId;

    use super::{super::snapshot::GenerationView, *};
    use crate::sys::cgroup::Cgroup;

    fn counts(opened: u64, live: u64) -> ConnectionCounts {
        ConnectionCounts {
            opened,
            live,
            ..ConnectionCounts::default()
        }
    }

    #[test]
    fn totals_are_of_all_that_ever_were_and_of_those_that_are_open() {
        let seen = |id, counts| {
            let id = GenerationId::new(id).unwrap();
            let generation = Generation::begin(id, "a".to_owned(), Cgroup::at("/none".into()));
            GenerationView::of(&generation, counts, None)
        };
        let snapshot = Snapshot {
            generations: vec![seen(1, counts(5, 2)), seen(2, counts(7, 1))],
            retired: counts(100, 0),
            parked_connections: counts(3, 3),
            ..Snapshot::default()
        };
        let totals = totals(&snapshot);
        assert_eq!((totals.opened, totals.live), (115, 6));
    }
}
