//! Adopt: a server that runs already becomes a generation, and its clients notice nothing.
//!
//! The order is the promise. The server's own listeners get their slots and the word names it
//! before `steer` is attached, through one of those listeners: from then on `steer` selects what
//! the kernel's hash could select before. Only then are the parking listeners opened, which no
//! client can reach while the server listens. An agent that dies on the way leaves either a server
//! that was never steered, or one that the next agent finds active.

pub(super) mod exec;
pub(super) mod supervised;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use lb_common::GenerationId;

use super::{
    AdoptError, CheckError, Context, VerbError,
    checks::Checks,
    ending::Endings,
    lives::Lives,
    parking::Parking,
    ports::{
        ForeignPorts,
        adoption_check::{AdoptionCheck, Sockets},
    },
    registry::{Command, Generation, Registry},
    report::Reporter,
    seats::Seats,
    shared::SharedState,
};
use crate::{
    api::wire::{AdoptRequest, Done},
    clock,
    config::{Reserve, check_name},
    datapath::{Group, Registered},
    generation::{
        adoptee::{self, Adoptee},
        life::Main,
        unit,
    },
    rollout::GenerationState,
    store::{Origin, Provenance},
    sys::{cgroup::Cgroup, inspect, listener, process},
};

/// What the registry says of a generation that was adopted again.
const AGAIN: &str = "restarted by its supervisor and adopted again; it was active before";

/// Which process, and what is known of it.
struct Target {
    name: Option<String>,
    pid: u32,
    unit: Option<String>,
    /// What that is stopped by.
    unit_signal: Option<String>,
    /// The command that starts it again, and where.
    command: Option<(Vec<String>, std::path::PathBuf)>,
}

/// Makes generations of servers that hotlb did not start.
#[derive(Debug)]
pub(super) struct Adoptions {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
    endings: Endings,
    lives: Arc<Lives>,
    seats: Seats,
    checks: Checks,
    ports: Arc<ForeignPorts>,
}

context_of!(Adoptions);

impl Adoptions {
    /// Those of a service.
    pub(super) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        parking: &Arc<Parking>,
        endings: &Endings,
        lives: &Arc<Lives>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
            endings: endings.clone(),
            lives: Arc::clone(lives),
            seats: Seats::new(context, state),
            checks: Checks::new(context, state, parking),
            ports: Arc::new(ForeignPorts::new(context, state, parking)),
        }
    }

    /// Makes a running server a generation; the active one, if there is none.
    ///
    /// # Errors
    ///
    /// Nothing was changed then.
    pub(super) async fn adopt(
        self: &Arc<Self>,
        request: AdoptRequest,
        reporter: &Reporter,
    ) -> Result<Done, VerbError> {
        let began = clock::now();
        if self.config.reserve == Reserve::Ports {
            return Err(AdoptError::Reserved(self.name().to_owned()).into());
        }
        let (pid, unit) = match (request.pid, request.unit) {
            (Some(pid), None) => (pid, None),
            (None, Some(unit)) => {
                let unit = unit::whole_name(&unit);
                let netns = self.netns.inode().map_err(|source| VerbError::System {
                    doing: "look at the service's network namespace",
                    source,
                })?;
                let pid = unit::main_pid(&unit, netns).await;
                let pid = pid.map_err(AdoptError::from)?;
                (pid, Some(unit))
            }
            (None, None) | (Some(_), Some(_)) => return Err(AdoptError::WhichProcess.into()),
        };
        reporter.step(format!("looking at {}", adoptee::describe(pid)));
        let process = inspect::inspect(pid).ok().flatten();
        let stops = match (process, &unit) {
            (Some(process), Some(unit)) => unit::stop_signal(unit, Some(&process.cgroup)).await,
            (Some(process), None) => match process.unit() {
                Some(unit) => unit::stop_signal(&unit, Some(&process.cgroup)).await,
                None => None,
            },
            (None, _) => None,
        };
        let target = Target {
            name: request.generation,
            pid,
            unit,
            unit_signal: stops.map(|signal| signal.as_str().to_owned()),
            command: (!request.command.is_empty()).then_some((request.command, request.cwd)),
        };
        let id = self.take_in(target).await?;
        let judged = self.endings.judge(self, &self.state, id).await;
        let ends = judged.map_or_else(String::new, |judged| {
            format!("; to end it, hotlb sends {}", judged.words())
        });
        let registry = self.state.lock().await;
        let name = registry.name_of(id);
        let generation = registry.get(id);
        let state = generation.map_or(GenerationState::Failed, Generation::state);
        let open = self.path.live(Some(id));
        Ok(Done {
            message: format!(
                "{name} is adopted and {} ({}, {open} connections open){ends}",
                state.name(),
                adoptee::describe(pid)
            ),
            generation: Some(name),
            steered_us: u64::try_from(began.elapsed().as_micros()).ok(),
            ..Done::default()
        })
    }

    async fn take_in(self: &Arc<Self>, target: Target) -> Result<GenerationId, VerbError> {
        let mut registry = self.state.lock().await;
        let name = name_for(&registry, target.name.clone())?;
        self.refuse_own(&registry, target.pid)?;
        let adoptee = adoptee::examine(target.pid, target.unit.is_some(), &self.netns)
            .map_err(AdoptError::from)?;
        let adoption_check = self.ports.adoption_check(&registry, &adoptee, &name)?;
        let id = self.seats.seat_for(&mut registry).await?;
        let counted = self.seats.succeed(&mut registry, &name, id);
        let process = &adoptee.process;
        let (command, cwd) = target
            .command
            .unwrap_or_else(|| (process.command.clone(), process.cwd.clone()));
        let command = Command::shown(command, cwd);
        let begun = Self::begun(id, name, adoptee.cgroup.clone(), process, command, counted);
        registry.add(begun.having(Provenance {
            origin: Origin::Adopted,
            cgroup: Some(adoptee.cgroup.path().to_owned()),
            unit: target.unit.or_else(|| process.unit()),
            unit_signal: target.unit_signal,
            ..Provenance::default()
        }));
        self.seats.forget_old(&mut registry);
        let first = registry.awaits_adopt();
        let mut taken = self
            .take_clients(&mut registry, id, &adoptee, &adoption_check)
            .await;
        if first && taken.is_ok() {
            drop(registry);
            let parked = self
                .parking
                .open_as(self, &self.state, &adoption_check.group_keys())
                .await;
            taken = parked.map_err(VerbError::from);
            registry = self.state.lock().await;
        }
        if let Err(error) = taken {
            drop(registry);
            self.give_back(id, &adoption_check, first, &error).await;
            return Err(error);
        }
        registry.await_no_adopt();
        self.state.settle(&registry);
        self.lives
            .watch_life(&mut registry, id, Main::Found(target.pid));
        self.follow_in_background(id);
        Ok(id)
    }

    fn refuse_own(&self, registry: &Registry, pid: u32) -> Result<(), AdoptError> {
        let living = registry.living();
        let generation = living
            .filter(|g| {
                g.main().map(|(main, _)| main) == Some(pid) || g.cgroup().pids().contains(&pid)
            })
            .map(|g| format!("generation {}", g.name()))
            .next();
        let agents = self
            .cgroup
            .path()
            .parent()
            .map(|path| Cgroup::at(path.to_owned()));
        let kept = || agents.is_some_and(|cgroup| cgroup.pids().contains(&pid));
        match generation.or_else(|| kept().then(|| "hotlb's own".to_owned())) {
            Some(what) => Err(AdoptError::Ours {
                who: adoptee::describe(pid),
                what,
            }),
            None => Ok(()),
        }
    }

    /// Counts, registers, steers, in this order.
    async fn take_clients(
        self: &Arc<Self>,
        registry: &mut Registry,
        id: GenerationId,
        adoptee: &Adoptee,
        adoption_check: &AdoptionCheck,
    ) -> Result<(), VerbError> {
        self.path.count(id, adoptee.cgroup.path())?;
        self.path.join_outside(id, adoptee.cgroup.path())?;
        self.note_earlier(registry, id, &adoptee.cgroup)?;
        // From here on the ledger knows it, so that a next agent takes back what is half done.
        self.recorded(registry).await?;
        let register = |group: &Group, sockets: &Sockets| self.register_sockets(group, id, sockets);
        let steered = by_group(self.path.groups(), adoption_check.listeners(), register)?;
        if process::start_time(adoptee.process.pid) != Some(adoptee.process.started) {
            return Err(AdoptError::Changed(adoptee.who.clone()).into());
        }
        let waited = registry.awaits_adopt();
        let nobody = self.path.word().active.is_none();
        if let Some(generation) = registry.get_mut(id) {
            generation.slots_mut().adopt(steered);
            generation.become_ready();
        }
        if !nobody {
            self.lives.word_follows(registry);
        } else if waited {
            self.lead_first(registry, id, adoption_check).await?;
        } else {
            self.lives.take_over_again(registry, id, AGAIN);
        }
        // With its slots a UDP group gets its program, which by now finds the generation in the word.
        let register = |group: &Group, sockets: &Sockets| {
            all_registered(self.path.register_datagrams(group, id, sockets)?)
        };
        let datagrams = by_group(
            self.path.datagram_groups(),
            adoption_check.datagrams(),
            register,
        )?;
        if let Some(generation) = registry.get_mut(id) {
            generation.slots_mut().give_datagrams(datagrams);
        }
        Ok(())
    }

    /// Nothing of hotlb's outlives the agent in a server that was adopted: without the ledger the next agent would not know
    /// that its listeners are the service's, and refuse to start.
    async fn recorded(&self, registry: &Registry) -> Result<(), VerbError> {
        self.state.record(registry).await.map_or(Ok(()), |error| {
            Err(VerbError::System {
                doing: "write the ledger, without which the next agent would not know of an adopted server",
                source: io::Error::other(error),
            })
        })
    }

    /// Makes it the active one of a service that has steered nobody yet.
    async fn lead_first(
        &self,
        registry: &mut Registry,
        id: GenerationId,
        adoption_check: &AdoptionCheck,
    ) -> Result<(), VerbError> {
        if let Some(generation) = registry.get_mut(id) {
            generation.enter(GenerationState::Active, None);
        }
        self.recorded(registry).await?;
        registry.steering_mut().adopt(id);
        self.attach_through(adoption_check)
    }

    /// Remembers the connections that `track` will not count: those that were open before it.
    /// A few that were opened just now are counted twice, for as long as they last.
    fn note_earlier(
        &self,
        registry: &mut Registry,
        id: GenerationId,
        cgroup: &Cgroup,
    ) -> Result<(), VerbError> {
        let earlier: BTreeSet<u64> = self.open_connections(cgroup)?;
        self.path.set_earlier(id, earlier.len() as u64);
        if let Some(generation) = registry.get_mut(id) {
            generation.note_earlier(earlier);
        }
        Ok(())
    }

    fn register_sockets(
        &self,
        group: &Group,
        id: GenerationId,
        sockets: &Sockets,
    ) -> Result<BTreeMap<u64, u32>, VerbError> {
        for (&cookie, socket) in sockets {
            if let Err(error) = listener::deepen(socket) {
                tracing::warn!(%error, "failed to enlarge the backlog of an adopted listener");
            }
            self.path.note_listener(cookie, Some(id));
        }
        all_registered(self.path.register(group, id, sockets)?)
    }

    fn attach_through(&self, adoption_check: &AdoptionCheck) -> Result<(), VerbError> {
        for (group, sockets) in self.path.groups().iter().zip(adoption_check.listeners()) {
            if let Some(socket) = sockets.values().next() {
                group.attach(socket)?;
            }
        }
        Ok(())
    }

    /// Leaves the server as it was. `first` is for one that was to lead a service that steered nobody.
    async fn give_back(
        &self,
        id: GenerationId,
        adoption_check: &AdoptionCheck,
        first: bool,
        error: &VerbError,
    ) {
        if first {
            // Before its program goes: the kernel's hash would lead clients into them.
            if let Err(error) = self.parking.close(&self.state).await {
                tracing::error!(service = self.name(), %error, "failed to close parking listeners");
            }
        }
        let mut registry = self.state.lock().await;
        if first && self.path.word().active == Some(id) {
            registry.steering_mut().lead_nowhere();
            let sockets = adoption_check.listeners().chain(adoption_check.datagrams());
            for (group, sockets) in self.path.all_groups().zip(sockets) {
                // Without a program the kernel's hash decides, among the server's own sockets. It
                // fails where none had been attached yet.
                let _none = sockets.values().next().map(|socket| group.detach(socket));
            }
        }
        for group in self.path.all_groups() {
            group.unregister(id);
        }
        self.path.set_earlier(id, 0);
        if let Some(generation) = registry.get_mut(id) {
            generation.give_back(error.to_string());
        }
        self.state.settle(&registry);
    }

    /// Once a second: an adopted server that its supervisor started again in its cgroup, when
    /// nobody else has taken its clients over.
    pub(super) async fn adopt_again(self: &Arc<Self>) {
        let Some(target) = self.to_adopt_again().await else {
            return;
        };
        let pid = target.pid;
        match self.take_in(target).await {
            Ok(id) => {
                self.state
                    .look(|registry| {
                        tracing::warn!(
                            generation = registry.name_of(id),
                            pid,
                            "adopted a server that its supervisor restarted"
                        );
                    })
                    .await;
            }
            // It may not listen yet; or it never will as it should, and then it is shown as Failed.
            Err(error) => tracing::debug!(
                %error,
                pid,
                "failed to adopt a server that its supervisor restarted"
            ),
        }
    }

    async fn to_adopt_again(&self) -> Option<Target> {
        let registry = self.state.lock().await;
        if self.path.word().active.is_some() || registry.is_ending() {
            return None;
        }
        let former = registry.all().rev().find(|g| {
            let provenance = g.provenance();
            provenance.origin == Origin::Adopted && provenance.is_awaited() && !g.state().is_live()
        })?;
        let cgroup = Cgroup::foreign(former.provenance().cgroup.clone()?);
        Some(Target {
            name: Some(former.name().to_owned()),
            pid: *unit::first_processes(&cgroup).first()?,
            unit: former.provenance().unit.clone(),
            unit_signal: former.provenance().unit_signal.clone(),
            command: Some((
                former.command().words().to_vec(),
                former.command().cwd().to_owned(),
            )),
        })
    }
}

/// The slots of the sockets of all groups.
fn by_group<'a>(
    groups: &'a [Group],
    sockets: impl Iterator<Item = &'a Sockets>,
    register: impl Fn(&Group, &Sockets) -> Result<BTreeMap<u64, u32>, VerbError>,
) -> Result<BTreeMap<u64, u32>, VerbError> {
    let mut slots = BTreeMap::new();
    for (group, sockets) in groups.iter().zip(sockets) {
        slots.extend(register(group, sockets)?);
    }
    Ok(slots)
}

/// The slots of the sockets, of which each has to have one.
fn all_registered(registered: Registered) -> Result<BTreeMap<u64, u32>, VerbError> {
    if registered.left_out.is_empty() {
        return Ok(registered.steered);
    }
    Err(VerbError::System {
        doing: "give each of its sockets a slot",
        source: io::Error::other("there is no room for all"),
    })
}

fn name_for(registry: &Registry, asked: Option<String>) -> Result<String, VerbError> {
    let name = asked.unwrap_or_else(|| registry.next_name());
    check_name(&name).map_err(VerbError::Name)?;
    if registry.is_ending() {
        return Err(VerbError::GoingDown);
    }
    match registry.by_name(&name).map(Generation::state) {
        Some(state) if state.is_live() => Err(VerbError::NameTaken { name, state }),
        _ => Ok(name),
    }
}

impl From<CheckError> for VerbError {
    fn from(error: CheckError) -> Self {
        Self::System {
            doing: "take its listeners over",
            source: io::Error::other(error.to_string()),
        }
    }
}
