//! Ports that somebody outside hotlb has: refused, or waited for until that server is adopted.

pub(super) mod adoption_check;
pub(super) mod strays;

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use super::{
    Context, OpenError, VerbError, parking::Parking, registry::Registry, shared::SharedState,
};
use crate::{
    config::ServiceConfig,
    generation::{adoptee::describe, fit::overlaps, keeper},
    store::{Ledger, Origin, Remembered},
    sys::{
        cgroup::Cgroup,
        inspect,
        netns::Netns,
        process,
        sock_diag::{self, DumpError, Protocol, Waiting},
        users,
    },
};

/// A listener outside hotlb that gets clients of the service.
#[derive(Clone, Debug)]
pub(super) struct ForeignListener {
    /// The declared address that it takes clients of.
    pub(super) declared: SocketAddr,
    /// The listener.
    pub(super) socket: Waiting,
    /// A process that holds it, if it can be seen.
    pub(super) pid: Option<u32>,
}

impl ForeignListener {
    /// Process and user.
    pub(super) fn describe(&self) -> String {
        let holder = self.pid.map_or_else(
            || "a process that cannot be seen from here".to_owned(),
            describe,
        );
        format!(
            "{holder}, listening on {} as user {} (uid {})",
            place(&self.socket),
            users::user_name(self.socket.uid),
            self.socket.uid
        )
    }

    /// The service of this host whose keeper holds it.
    fn service(&self) -> Option<String> {
        let pid = self.pid.filter(|&pid| process::name(pid) == keeper::NAME)?;
        let parking = inspect::inspect(pid).ok().flatten()?.cgroup_dir().ok()??;
        let ports = parking.path().parent()?.file_name()?;
        Some(ports.to_string_lossy().into_owned())
    }

    /// What is typed to adopt it.
    fn command(&self, service: &str) -> String {
        let inspected = self
            .pid
            .and_then(|pid| inspect::inspect(pid).ok().flatten());
        let whom = match (inspected.and_then(|process| process.unit()), self.pid) {
            (Some(unit), _) => format!("--unit {unit}"),
            (None, Some(pid)) => format!("--pid {pid}"),
            (None, None) => "--pid PID".to_owned(),
        };
        format!("hotlb adopt --service {service} --generation gen1 {whom}")
    }
}

/// Where a socket waits, as the configuration writes it, and its device.
fn place(socket: &Waiting) -> String {
    let scheme = match socket.protocol {
        Protocol::Tcp => "",
        Protocol::Udp => "udp://",
    };
    let device = match &socket.device {
        Some(device) => format!(" on device {device}"),
        None => String::new(),
    };
    format!("{scheme}{}{device}", socket.address)
}

/// The sockets outside `ours` (ids of cgroups) that get clients of `addresses`.
fn strangers(
    netns: &Netns,
    protocol: Protocol,
    addresses: &[SocketAddr],
    ours: &HashSet<u64>,
) -> Result<Vec<ForeignListener>, DumpError> {
    let foreign: Vec<(SocketAddr, Waiting)> = sock_diag::waiting(netns, protocol)?
        .into_iter()
        .filter(|socket| !socket.cgroup.is_some_and(|id| ours.contains(&id)))
        .filter_map(|socket| {
            let declared = addresses.iter().find(|&&a| match protocol {
                Protocol::Tcp => overlaps(socket.address, a),
                // One at a more specific address is another server's: a resolver on the loopback.
                Protocol::Udp => socket.address == a,
            })?;
            Some((*declared, socket))
        })
        .collect();
    if foreign.is_empty() {
        return Ok(Vec::new());
    }
    let holders = process::socket_holders(process::all_pids());
    let held = foreign
        .into_iter()
        .map(|(declared, socket)| ForeignListener {
            declared,
            pid: holders
                .get(&socket.inode)
                .and_then(|all| Some(all.first()?.pid)),
            socket,
        });
    Ok(held.collect())
}

fn strangers_at_datagrams(
    netns: &Netns,
    config: &ServiceConfig,
    ours: &HashSet<u64>,
) -> Result<Vec<ForeignListener>, DumpError> {
    match &config.datagrams {
        Some(datagrams) => strangers(netns, Protocol::Udp, &datagrams.listen, ours),
        None => Ok(Vec::new()),
    }
}

/// Whether the service must wait for its ports: somebody outside has them, which is an error
/// unless the service may adopt and has nothing of its own there yet.
pub(super) fn must_wait(
    config: &ServiceConfig,
    netns: &Netns,
    cgroup: &Cgroup,
    ledger: &Ledger,
    has_parks: bool,
) -> Result<bool, OpenError> {
    let living = living_outside(ledger);
    let mut ours: HashSet<u64> = cgroup.ids().into_iter().collect();
    ours.extend(living.iter().flat_map(Cgroup::ids));
    let may_wait = config.adopt && !has_parks && living.is_empty();
    // A UDP socket of somebody else's is met by the first bind: nothing is opened before.
    let held = strangers(netns, Protocol::Tcp, &config.listen, &ours)?;
    let of_service = |held: &ForeignListener| Some((held.declared, held.service()?));
    if let Some((address, former)) = held.iter().find_map(of_service) {
        return Err(OpenError::PortOfService { address, former });
    }
    if may_wait && !strangers_at_datagrams(netns, config, &ours)?.is_empty() {
        return Ok(true);
    }
    let Some(first) = held.first() else {
        return Ok(false);
    };
    if may_wait {
        return Ok(true);
    }
    Err(OpenError::PortHeld {
        address: first.declared,
        holder: first.describe(),
    })
}

/// The cgroups outside the service's in which generations of an earlier agent live.
fn living_outside(ledger: &Ledger) -> Vec<Cgroup> {
    if ledger.boot != process::boot_id() {
        return Vec::new();
    }
    let remembered = ledger.generations.iter().filter(|g| g.state.is_live());
    remembered
        .filter(|g| is_complete(g))
        .filter_map(|g| g.provenance.cgroup.clone().map(Cgroup::foreign))
        .filter(Cgroup::is_populated)
        .collect()
}

/// The groups cannot be made anew under generations that live outside the service's cgroup.
pub(super) fn refuse_living_outside(ledger: &Ledger) -> Result<(), OpenError> {
    if living_outside(ledger).is_empty() {
        Ok(())
    } else {
        Err(OpenError::GroupsChanged)
    }
}

/// An adoption that an agent died in the middle of never was one: nobody was steered yet.
pub(super) fn is_complete(remembered: &Remembered) -> bool {
    remembered.provenance.origin != Origin::Adopted || remembered.was_ready
}

/// What others than hotlb have of a service's ports.
#[derive(Debug)]
pub(super) struct ForeignPorts {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
}

context_of!(ForeignPorts);

impl ForeignPorts {
    /// Those of a service.
    pub(super) fn new(context: &Arc<Context>, state: &SharedState, parking: &Arc<Parking>) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
        }
    }

    /// Who has its ports, of those outside hotlb. Its generations are in `cgroups`.
    pub(super) fn held(&self, cgroups: &[Cgroup]) -> Result<Vec<ForeignListener>, DumpError> {
        let mut ours: HashSet<u64> = self.cgroup.ids().into_iter().collect();
        ours.extend(cgroups.iter().flat_map(Cgroup::ids));
        let mut held = strangers(&self.netns, Protocol::Tcp, &self.config.listen, &ours)?;
        held.extend(strangers_at_datagrams(&self.netns, &self.config, &ours)?);
        Ok(held)
    }

    /// Refuses what cannot be done while somebody else has the ports.
    pub(super) async fn refuse_while_held(self: &Arc<Self>) -> Result<(), VerbError> {
        match self.why_waiting().await? {
            Some(why) => Err(VerbError::AwaitsAdopt(why)),
            None => Ok(()),
        }
    }

    /// Takes the ports if they are free by now; refuses while somebody else has them.
    pub(super) async fn take_port(self: &Arc<Self>) -> Result<(), VerbError> {
        self.refuse_while_held().await?;
        if !self.state.look(Registry::awaits_adopt).await {
            return Ok(());
        }
        self.parking
            .open(self, &self.state)
            .await
            .map_err(|error| VerbError::System {
                doing: "open the parking listeners",
                source: std::io::Error::other(error.to_string()),
            })?;
        self.state.change(Registry::await_no_adopt).await;
        Ok(())
    }

    async fn why_waiting(self: &Arc<Self>) -> Result<Option<String>, DumpError> {
        let cgroups = {
            let registry = self.state.lock().await;
            if !registry.awaits_adopt() {
                return Ok(None);
            }
            registry.cgroups()
        };
        // All of /proc is looked through: not under the lock, and not where others wait for their turn.
        let ports = Arc::clone(self);
        let look = tokio::task::spawn_blocking(move || ports.holder(&cgroups));
        look.await
            .unwrap_or_else(|broken| std::panic::resume_unwind(broken.into_panic()))
    }

    fn holder(&self, cgroups: &[Cgroup]) -> Result<Option<String>, DumpError> {
        let held = self.held(cgroups)?;
        let why = held.first().map(|held| {
            format!(
                "{} is held by {}: hotlb steers nothing until you run `{}`, or that server ends",
                held.declared,
                held.describe(),
                held.command(self.name())
            )
        });
        Ok(why)
    }

    /// What `status` says while the service waits.
    pub(super) async fn waiting_warning(self: &Arc<Self>) -> String {
        match self.why_waiting().await {
            Ok(Some(why)) => why,
            Ok(None) => "the service waits for a server to adopt, but no process holds its ports: \
                         deploy a generation, or start the server and adopt it"
                .to_owned(),
            Err(error) => error.to_string(),
        }
    }
}
