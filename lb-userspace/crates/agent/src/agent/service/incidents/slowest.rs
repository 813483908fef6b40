//! Connections that wait, and for what.

use std::{collections::HashMap, time::Duration};

use lb_common::GenerationId;

use super::{super::Context, Subject};
use crate::{
    datapath::ServicePath,
    generation::established,
    incident::{Phase, SlowConnection, Window},
    sys::{
        cgroup::Cgroup,
        established::{Connection, State},
        tcp_info::TcpInfo,
    },
};

/// The kernel is asked for a list of connections while there are so many at most: a list of more
/// takes it too long.
pub(super) const MOST_LISTED: u64 = 20_000;
/// A request without an answer for so long waits, when far fewer than usual are answered.
const STUCK: Duration = Duration::from_millis(500);
/// So many slow connections are remembered from look to look.
const REMEMBERED: usize = 500;

/// The slowest connections, over several looks.
#[derive(Debug, Default)]
pub(super) struct Slowest(HashMap<u64, SlowConnection>);

impl Slowest {
    /// Adds what a look showed: a connection counts as it was when it had waited longest.
    pub(super) fn add(&mut self, path: &ServicePath, found: Vec<(Connection, Option<TcpInfo>)>) {
        for (connection, info) in found {
            let cookie = connection.cookie;
            let Some(slow) = slow(path, &connection, info) else {
                continue;
            };
            let before = self.0.get(&cookie).map_or(0, |before| before.waited_us);
            if slow.waited_us >= before {
                self.0.insert(cookie, slow);
            }
        }
        if self.0.len() > REMEMBERED {
            let mut waited: Vec<u64> = self.0.values().map(|slow| slow.waited_us).collect();
            let (_, least, _) = waited.select_nth_unstable_by(REMEMBERED, |a, b| b.cmp(a));
            let least = *least;
            self.0.retain(|_, slow| slow.waited_us > least);
        }
    }

    /// The `count` slowest, slowest first.
    pub(super) fn into_slowest(self, count: usize) -> Vec<SlowConnection> {
        let mut all: Vec<_> = self.0.into_values().collect();
        all.sort_by_key(|slow| std::cmp::Reverse(slow.waited_us));
        all.truncate(count);
        all
    }
}

/// How many of the generation's connections have bytes that it has not read, are not accepted,
/// or wait for an answer; `None` if that would take too long to find out.
pub(super) fn count_unread(context: &Context, subject: &Subject, window: &Window) -> Option<u32> {
    if window.live > MOST_LISTED {
        return None;
    }
    let moved = context.path.connections(Some(subject.id)).moved_in > 0;
    let found = established::find(&subject.cgroup, &context.ports(), moved).ok()?;
    let stuck = |connection: &Connection| {
        let unanswered = context.path.unanswered(connection.cookie);
        unanswered.is_some_and(|waited| waited >= STUCK)
    };
    let unread = found
        .iter()
        .filter(|c| is_queued(c) || c.receive_queue > 0 || stuck(c));
    u32::try_from(unread.count()).ok()
}

/// The generation's connections now, and what the kernel knows of each.
pub(super) async fn detailed(
    context: &Context,
    id: GenerationId,
    cgroup: Cgroup,
) -> Vec<(Connection, Option<TcpInfo>)> {
    let ports = context.ports();
    let moved = context.path.connections(Some(id)).moved_in > 0;
    let found =
        tokio::task::spawn_blocking(move || established::find_detailed(&cgroup, &ports, moved));
    match found.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(
                service = context.name(),
                %error,
                "failed to list the slowest connections"
            );
            Vec::new()
        }
        Err(_broken) => Vec::new(),
    }
}

fn is_queued(connection: &Connection) -> bool {
    let open = matches!(connection.state, State::Established | State::CloseWait);
    open && connection.inode == 0
}

/// What a connection waits for; `None` if for nothing.
fn slow(
    path: &ServicePath,
    connection: &Connection,
    info: Option<TcpInfo>,
) -> Option<SlowConnection> {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).ok();
    let age_us = path.age(connection.cookie).and_then(micros);
    let millis = |ms: fn(&TcpInfo) -> u32| info.as_ref().map(|info| u64::from(ms(info)) * 1_000);
    let (phase, waited_us) = if is_queued(connection) {
        (
            Phase::Queued,
            age_us.or_else(|| millis(|i| i.since_received))?,
        )
    } else if connection.receive_queue > 0 {
        (Phase::Unread, millis(|info| info.since_received)?)
    } else if let Some(waited) = path.unanswered(connection.cookie) {
        (Phase::Unanswered, micros(waited)?)
    } else if connection.send_queue > 0 {
        (Phase::Sending, millis(|info| info.since_acknowledged)?)
    } else {
        return None;
    };
    Some(SlowConnection {
        client: connection.peer,
        phase,
        waited_us,
        age_us,
        received: info.map_or(0, |info| info.bytes_received),
        sent: info.map_or(0, |info| info.bytes_sent),
        round_trip_us: info.map_or(0, |info| info.round_trip),
        retransmitted: info.map_or(0, |info| info.retransmitted),
    })
}
