//! A generation's listeners and their slots.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    os::fd::OwnedFd,
};

use lb_common::GenerationId;

use super::{
    CheckError, Context,
    datagrams::give_datagram_slots,
    registry::{Generation, Registry},
};
use crate::{
    datapath::Group,
    generation::{
        fit::{self, Misfit},
        listeners,
    },
    sys::{
        cgroup::Cgroup,
        listener,
        listing::Listing,
        sock_diag::{DumpError, Protocol, Waiting},
    },
};

/// Gives each of the generation's listeners a slot, but for those that hang. Cheap when
/// nothing changed.
///
/// # Errors
///
/// [`CheckError::Untaken`] when some have none yet, [`Misfit::Bound`] or [`Misfit::Narrower`]
/// when some can have none; the others have theirs then.
pub(super) fn register(
    context: &Context,
    registry: &mut Registry,
    id: GenerationId,
) -> Result<(), CheckError> {
    let listing = Listing::now(&context.netns, Protocol::Tcp)?;
    let stray = match registry.get(id) {
        Some(generation) => stray(context, generation.cgroup(), &own(generation, &listing))?,
        None => None,
    };
    let members = members(registry, id, &listing);
    let given = members.and_then(|members| give_slots(context, registry, id, &members));
    stray.map_or(given, |misfit| Err(misfit.into()))
}

/// A socket of the server in this cgroup that gets the service's clients past its groups; its
/// listeners are `found` already.
pub(super) fn stray(
    context: &Context,
    cgroup: &Cgroup,
    found: &[Waiting],
) -> Result<Option<Misfit>, DumpError> {
    let listener = fit::stray(&context.config.listen, found);
    match &context.config.datagrams {
        Some(datagrams) if listener.is_none() => {
            let found = listeners::find(&context.netns, cgroup, Protocol::Udp)?;
            Ok(fit::stray(&datagrams.listen, &found))
        }
        _ => Ok(listener),
    }
}

/// [`register`] for who has the listeners, by group.
pub(super) fn give_slots(
    context: &Context,
    registry: &mut Registry,
    id: GenerationId,
    members: &[Vec<Waiting>],
) -> Result<(), CheckError> {
    let Some(generation) = registry.get_mut(id) else {
        return Ok(());
    };
    give_datagram_slots(context, generation)?;
    let hangs = |waiting: &&Waiting| generation.slots().progress().hangs(waiting.cookie);
    let cookie = |waiting: &Waiting| waiting.cookie;
    let all = || members.iter().flatten();
    let wanted: BTreeSet<u64> = all().filter(|w| !hangs(w)).map(cookie).collect();
    if wanted.iter().eq(generation.slots().steered().keys()) {
        return Ok(());
    }
    let resting: BTreeSet<u64> = all().filter(hangs).map(cookie).collect();
    context.path.rest(id, &resting)?;
    let mut given = Given::default();
    for (group, members) in context.path.groups().iter().zip(members) {
        given.add(context, group, generation, members, &wanted)?;
    }
    generation.slots_mut().give(given.steered, given.left_out);
    given.untaken.map_or(Ok(()), Err)
}

/// What came of giving slots, over all groups.
#[derive(Debug, Default)]
struct Given {
    steered: BTreeMap<u64, u32>,
    left_out: usize,
    untaken: Option<CheckError>,
}

impl Given {
    /// Gives those of a group's listeners slots that are `wanted`.
    fn add(
        &mut self,
        context: &Context,
        group: &Group,
        generation: &Generation,
        members: &[Waiting],
        wanted: &BTreeSet<u64>,
    ) -> Result<(), CheckError> {
        let mut sockets = listeners::take(generation.cgroup(), members);
        if let Some(error) = untaken_of(group.address(), members, &sockets) {
            let kept = kept(members, generation.slots().steered());
            if !kept.is_empty() {
                self.untaken = Some(error);
                self.left_out += members.len() - kept.len();
                self.steered.extend(kept);
                return Ok(());
            }
            self.untaken = Some(match members.first() {
                Some(hidden) if sockets.is_empty() => CheckError::NoDescriptor {
                    address: hidden.address,
                },
                _ => error,
            });
            self.left_out += members.len() - sockets.len();
        }
        for transparent in members.iter().filter(|member| member.transparent) {
            if let Some(socket) = sockets.get(&transparent.cookie) {
                context.path.count_transparent(socket)?;
                context.note_transparent();
            }
        }
        sockets.retain(|cookie, _| wanted.contains(cookie));
        for (&cookie, socket) in &sockets {
            if let Err(error) = listener::deepen(socket) {
                tracing::warn!(%error, "failed to enlarge the backlog of a listener");
            }
            context.path.note_listener(cookie, Some(generation.id()));
        }
        let registered = context.path.register(group, generation.id(), &sockets)?;
        self.steered.extend(registered.steered);
        self.left_out += registered.left_out.len();
        Ok(())
    }
}

/// An error if some of a group's sockets were not taken: whoever held one has just ended, and
/// another process of the server has it.
pub(super) fn untaken_of(
    address: SocketAddr,
    members: &[Waiting],
    taken: &BTreeMap<u64, OwnedFd>,
) -> Option<CheckError> {
    let missing = members.len() - taken.len();
    (missing > 0).then_some(CheckError::Untaken { address, missing })
}

/// The slots that sockets of a group have: they keep them as long as not all can be taken, for to
/// register some would take the others out of the choice.
pub(super) fn kept(members: &[Waiting], slots: &BTreeMap<u64, u32>) -> BTreeMap<u64, u32> {
    let slot = |socket: &Waiting| Some((socket.cookie, *slots.get(&socket.cookie)?));
    members.iter().filter_map(slot).collect()
}

/// The generation's listeners in each group, or why they do not fit.
pub(super) fn members(
    registry: &Registry,
    id: GenerationId,
    listing: &Listing,
) -> Result<Vec<Vec<Waiting>>, CheckError> {
    let Some(generation) = registry.get(id) else {
        return Ok(Vec::new());
    };
    let found = own(generation, listing);
    if let Some(error) = registry.keeper_error() {
        return Err(CheckError::NoKeeper(error.to_owned()));
    }
    Ok(fit::fit(&registry.parks().group_keys(), &found)?)
}

fn own(generation: &Generation, listing: &Listing) -> Vec<Waiting> {
    let found = listing.below(generation.cgroup());
    found.into_iter().cloned().collect()
}
