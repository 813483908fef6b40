//! Whether hotlb's programs still decide about the service's groups. Anybody with the rights may
//! attach another one (nginx's `quic_bpf` does, and QUIC libraries do), and no call says so.

use std::{
    collections::BTreeMap,
    sync::{self, Arc, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{MissedTickBehavior, interval},
};

use super::{
    Context, beside::in_turn, broken::unbroken, parking::Parking, registry::Registry,
    shared::SharedState,
};
use crate::{
    config::ForeignProgram,
    datapath::{Deciding, Group, deciding, deciding_now},
    generation::listeners,
    sys::{
        cgroup::Cgroup,
        sock_diag::{self, Protocol},
    },
};

/// How often it is looked who decides.
const EACH: Duration = Duration::from_secs(1);

/// What was found wrong when the groups were last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ForeignPrograms {
    /// The program that decides about the group at an address, as the configuration writes it; 0
    /// for none.
    groups: BTreeMap<String, u32>,
    /// How often hotlb's program was put back.
    restored: u64,
    /// Why nobody can look.
    blind: Option<String>,
}

impl ForeignPrograms {
    /// About how many groups other programs decide.
    pub(super) fn count(&self) -> u64 {
        self.groups.len() as u64
    }

    /// What is not as it should be with who decides.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (address, program) in &self.groups {
            let whose = match *program {
                0 => "no program decides".to_owned(),
                u32::MAX => "another classic filter decides".to_owned(),
                id => format!("another program (id {id}) decides"),
            };
            warnings.push(format!(
                "{address}: {whose} which generation gets new clients, not hotlb; end the process \
                 that attached it, or set foreign_program = \"restore\""
            ));
        }
        if let Some(reason) = &self.blind {
            warnings.push(format!(
                "programs that others attach to the service's groups cannot be detected: {reason}"
            ));
        }
        if self.restored > 0 {
            warnings.push(format!(
                "hotlb's program was restored {} times in place of another one",
                self.restored
            ));
        }
        warnings
    }
}

/// Looks who decides, and puts hotlb's program back if the service says so.
#[derive(Debug, Default)]
pub(super) struct ForeignProgramDetector {
    found: sync::Mutex<ForeignPrograms>,
    turn: Arc<Mutex<()>>,
}

/// A group about which another program decides.
#[derive(Clone, Copy, Debug)]
struct Foreign {
    protocol: Protocol,
    /// Among the groups of that protocol.
    index: usize,
    program: u32,
    /// Hotlb's was put back.
    is_restored: bool,
}

impl ForeignProgramDetector {
    /// What was found last.
    pub(super) fn found(&self) -> ForeignPrograms {
        self.noted().clone()
    }

    /// Has nobody attach programs until this is dropped. Taken before the lock of the state, never after.
    pub(super) async fn hold(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Looks once a second, for ever.
    pub(super) async fn keep(
        &self,
        context: &Arc<Context>,
        state: &SharedState,
        parking: &Parking,
    ) {
        let mut each = interval(EACH);
        each.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            each.tick().await;
            self.look(context, state, parking).await;
        }
    }

    async fn look(&self, context: &Arc<Context>, state: &SharedState, parking: &Parking) {
        let of = Arc::clone(context);
        let looked = unbroken(in_turn(move || look(&of))).await;
        let mut found = looked.unwrap_or_else(|broken| Err(broken.reason()));
        let turn = self.hold().await;
        let living = {
            let registry = state.lock().await;
            if registry.is_ending() || registry.awaits_adopt() {
                return;
            }
            if let Ok(found) = &mut found {
                restore_listeners(context, &registry, parking, found);
            }
            let living = registry.living();
            living.map(|g| g.cgroup().clone()).collect()
        };
        let found = match found {
            Ok(found) => restore_datagrams(context, living, found, turn).await,
            Err(reason) => Err(reason),
        };
        match found {
            Ok(found) => self.note(context, &found),
            Err(reason) => self.noted().blind = Some(reason),
        }
    }

    fn note(&self, context: &Context, found: &[Foreign]) {
        let (service, mut noted) = (context.name(), self.noted());
        let mut groups = BTreeMap::new();
        for foreign in found {
            let Some(group) = foreign.group(context) else {
                continue;
            };
            let (address, program) = (group.address(), foreign.program);
            if foreign.is_restored {
                noted.restored += 1;
                tracing::warn!(
                    service,
                    %address,
                    program,
                    "restored hotlb's program in place of another one"
                );
                continue;
            }
            let scheme = match foreign.protocol {
                Protocol::Tcp => "",
                Protocol::Udp => "udp://",
            };
            groups.insert(format!("{scheme}{address}"), program);
        }
        for (address, program) in &groups {
            if noted.groups.get(address) != Some(program) {
                tracing::error!(
                    service,
                    address,
                    program,
                    "another program is attached to the group in place of hotlb's"
                );
            }
        }
        noted.blind = None;
        noted.groups = groups;
    }

    fn noted(&self) -> sync::MutexGuard<'_, ForeignPrograms> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Foreign {
    fn group(self, context: &Context) -> Option<&Group> {
        let groups = match self.protocol {
            Protocol::Tcp => context.path.groups(),
            Protocol::Udp => context.path.datagram_groups(),
        };
        groups.get(self.index)
    }
}

/// The groups about which other programs decide, or why nobody can look.
fn look(context: &Context) -> Result<Vec<Foreign>, String> {
    let found = foreign(context, &deciding(&context.netns)?);
    if found.is_empty() {
        return Ok(found);
    }
    // A group may have been made since that look, and one that is made during the next one is none of these.
    let Ok(now) = deciding_now(&context.netns) else {
        return Ok(found);
    };
    let was_found = |now: &Foreign| {
        let same = |was: &Foreign| (was.protocol, was.index) == (now.protocol, now.index);
        found.iter().any(same)
    };
    let mut now = foreign(context, &now);
    now.retain(was_found);
    Ok(now)
}

fn foreign(context: &Context, deciding: &Deciding) -> Vec<Foreign> {
    let of = |protocol, groups: &[Group]| -> Vec<Foreign> {
        let groups = groups.iter().enumerate();
        groups
            .filter_map(|(index, group)| {
                Some(Foreign {
                    protocol,
                    index,
                    program: foreign_program(group, deciding)?,
                    is_restored: false,
                })
            })
            .collect()
    };
    let mut all = of(Protocol::Tcp, context.path.groups());
    all.extend(of(Protocol::Udp, context.path.datagram_groups()));
    all
}

fn restores(context: &Context, foreign: &Foreign, protocol: Protocol) -> bool {
    context.config.foreign_program != ForeignProgram::Warn && foreign.protocol == protocol
}

/// Attaches to the parking listeners of the groups: only under the lock of the state is a listener's number in
/// the keeper's table surely its own.
fn restore_listeners(
    context: &Context,
    registry: &Registry,
    parking: &Parking,
    found: &mut [Foreign],
) {
    for foreign in found {
        let group = foreign.group(context);
        let Some(group) = group.filter(|_| restores(context, foreign, Protocol::Tcp)) else {
            continue;
        };
        let restored = registry.parks().at(group.address()).map(|parked| {
            let taken = parking.keeper().take(parked);
            let socket = taken.map_err(|error| error.to_string())?;
            group.attach(socket).map_err(|error| error.to_string())
        });
        foreign.is_restored = is_restored(context, restored);
    }
}

/// Attaches through any socket of each group that a living generation has. To find that takes a list of all
/// sockets, and of all descriptors of its processes.
async fn restore_datagrams(
    context: &Arc<Context>,
    living: Vec<Cgroup>,
    mut found: Vec<Foreign>,
    turn: OwnedMutexGuard<()>,
) -> Result<Vec<Foreign>, String> {
    let mut udp = found.iter();
    if !udp.any(|foreign| restores(context, foreign, Protocol::Udp)) {
        return Ok(found);
    }
    let context = Arc::clone(context);
    let restoring = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        for foreign in &mut found {
            let group = foreign.group(&context);
            if let Some(group) = group.filter(|_| restores(&context, foreign, Protocol::Udp)) {
                let restored = attach_datagrams(&context, &living, group);
                foreign.is_restored = is_restored(&context, restored);
            }
        }
        found
    });
    restoring.await.map_err(|error| error.to_string())
}

fn attach_datagrams(
    context: &Context,
    living: &[Cgroup],
    group: &Group,
) -> Option<Result<(), String>> {
    let all = sock_diag::waiting(&context.netns, Protocol::Udp).unwrap_or_default();
    let cookies: Vec<u64> = group.cookies().ok()?;
    let members: Vec<_> = all
        .into_iter()
        .filter(|socket| cookies.contains(&socket.cookie))
        .collect();
    let mut sockets = living
        .iter()
        .flat_map(|cgroup| listeners::take(cgroup, &members));
    let (_, socket) = sockets.next()?;
    Some(group.attach(socket).map_err(|error| error.to_string()))
}

fn is_restored(context: &Context, restored: Option<Result<(), String>>) -> bool {
    match restored {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            tracing::error!(
                service = context.name(),
                error,
                "failed to restore hotlb's program"
            );
            false
        }
        None => false,
    }
}

/// The program that decides about the group although it is not hotlb's; `None` if hotlb's does, or
/// the group has no socket that is known.
fn foreign_program(group: &Group, deciding: &Deciding) -> Option<u32> {
    let own = group.program_id().ok()?;
    let cookies = group.cookies().unwrap_or_default();
    let found = cookies.iter().find_map(|cookie| deciding.get(cookie))?;
    (*found != own).then_some(*found)
}
