//! One service's part of the kernel: the steering row, tickets, counters and links that all its
//! groups share, and the groups.

use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aya::maps::{HashMap, Map, MapData, PerCpuArray, PerCpuValues};
use hotlb_sys::{cgroup::Cgroup, mapped::MappedCells, netns::Netns};
use hotlb_values::{ConnectionCounts, Latencies, SteeringCounts};
use lb_common::{
    BindRule, CONNECTION_CELLS, EXIT_CELLS, GenerationId, ListenKey, SteeringWord, TicketKey,
    names, port_key, steering,
};

use super::{
    datagrams::Datagrams,
    declared::Declared,
    error::DatapathError,
    flows::Flows,
    group::Group,
    latency::{self, Histograms},
    live::Live,
    loads::Loads,
    make,
    owners::Owners,
    pins::{Pins, unpin},
    polite::{Impolite, Polite},
    recent::Recent,
    refused,
    reload::Reloads,
    renew::{self, Former, InForce, Renewal},
    reserve,
    word_writer::WordWriter,
};

/// The kernel side of one service. The only owner of its maps.
pub struct ServicePath {
    pins: Pins,
    pub(super) groups: Vec<Group>,
    datagrams: Datagrams,
    pub(super) steering: Arc<MappedCells>,
    pub(super) live: Live,
    exits: PerCpuArray<MapData, [u64; EXIT_CELLS]>,
    recent: Recent,
    latencies: Histograms,
    pub(super) loads: Loads,
    pub(super) owners: Owners,
    polite: Result<Polite, Impolite>,
    /// `None` of pins that an earlier release made.
    pub(super) reloads: Option<Reloads>,
    tables: Mutex<Tables>,
    renewal: Renewal,
}

impl fmt::Debug for ServicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServicePath")
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

/// The maps that are written through `&mut`.
struct Tables {
    connections: PerCpuArray<MapData, [u64; CONNECTION_CELLS]>,
    tickets: HashMap<MapData, [u32; TicketKey::WORDS], u32>,
}

/// Takes a ticket back when dropped.
#[derive(Debug)]
pub struct TicketGuard<'a> {
    path: &'a ServicePath,
    key: [u32; TicketKey::WORDS],
}

impl Drop for TicketGuard<'_> {
    fn drop(&mut self) {
        self.path.revoke(&self.key);
    }
}

impl ServicePath {
    /// Opens the service's pins, making them first if there are none, and gives the only one who
    /// stores its word. Links of `join` and `track` attach to `cgroup`. Pins that another object's
    /// agent made are brought to the present one if `former` says so; what comes of that is
    /// [`ServicePath::renewal`].
    ///
    /// # Errors
    ///
    /// [`DatapathError::Layout`] when the pins are of a version that is not taken over: nothing is
    /// changed then.
    pub fn open_or_create(
        pins: Pins,
        cgroup: &Path,
        declared: &Declared,
        former: Former,
    ) -> Result<(Self, WordWriter), DatapathError> {
        let mut renewal = Renewal::None;
        if pins.exist() {
            renew::refuse_unknown_layout(&pins)?;
            renewal = if InForce::of(&pins)?.is_own() {
                Renewal::Found
            } else if former == Former::Kept {
                Renewal::Kept(None)
            } else if let Err(error) = renew::renew(&pins, cgroup, declared) {
                Renewal::Kept(Some(error.to_string()))
            } else {
                Renewal::Begun
            };
        } else {
            let staging = pins.stage()?;
            make::create(&staging, cgroup, declared)?;
            pins.commit(&staging)?;
        }
        let path = Self::open(pins, declared, renewal)?;
        path.declare(declared)?;
        path.clear_tickets()?;
        let writer = WordWriter::new(Arc::clone(&path.steering));
        Ok((path, writer))
    }

    /// Refuses pins of a layout version that is not taken over. There need not be any.
    ///
    /// # Errors
    ///
    /// [`DatapathError::Layout`] with the versions.
    pub fn refuse_unknown_layout(pins: &Pins) -> Result<(), DatapathError> {
        if pins.exist() {
            renew::refuse_unknown_layout(pins)?;
        }
        Ok(())
    }

    /// Who is active by the pins, if there are any that can be read.
    pub fn active_of(pins: &Pins) -> Option<GenerationId> {
        let row = steering_row(pins).ok()?;
        SteeringWord::from_bits(row.load(steering::WORD)).active
    }

    /// What became of the pins that were found.
    pub fn renewal(&self) -> &Renewal {
        &self.renewal
    }

    /// Whose programs decide.
    pub fn in_force(&self) -> InForce {
        InForce::from_row(&self.steering)
    }

    /// The present programs are attached everywhere, if they were to be.
    pub fn end_renewal(&self) {
        if self.renewal == Renewal::Begun {
            renew::done(&self.steering);
        }
    }

    fn open(pins: Pins, declared: &Declared, renewal: Renewal) -> Result<Self, DatapathError> {
        let map = |name: &'static str| {
            MapData::from_pin(pins.map(name)).map_err(DatapathError::map(name))
        };
        let connections = PerCpuArray::try_from(Map::PerCpuArray(map(names::CONNECTIONS)?));
        let exits = PerCpuArray::try_from(Map::PerCpuArray(map(names::EXITS)?));
        let tables = Tables {
            connections: connections.map_err(DatapathError::map(names::CONNECTIONS))?,
            tickets: HashMap::try_from(Map::HashMap(map(names::TICKETS)?))
                .map_err(DatapathError::map(names::TICKETS))?,
        };
        let groups = declared
            .addresses
            .iter()
            .map(|&address| Group::open(&pins, address))
            .collect::<Result<_, _>>()?;
        let datagrams = Datagrams::open(&pins, declared)?;
        Ok(Self {
            groups,
            datagrams,
            steering: Arc::new(steering_row(&pins)?),
            live: Live::open(&pins)?,
            exits: exits.map_err(DatapathError::map(names::EXITS))?,
            recent: Recent::open(&pins)?,
            latencies: Histograms::open(&pins)?,
            loads: Loads::open(&pins)?,
            owners: Owners::open(&pins)?,
            reloads: Reloads::open(&pins)
                .inspect_err(|error| tracing::warn!(%error, "failed to open the reload map"))
                .ok(),
            polite: Polite::open(&pins),
            tables: Mutex::new(tables),
            renewal,
            pins,
        })
    }

    /// The pins.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The groups, one for each declared address, in that order.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The groups of UDP sockets, one for each declared address, in that order.
    pub fn datagram_groups(&self) -> &[Group] {
        self.datagrams.groups()
    }

    /// All groups.
    pub fn all_groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().chain(self.datagrams.groups())
    }

    /// The flows of UDP clients; `None` for a service without UDP.
    pub fn flows(&self) -> Option<&Flows> {
        self.datagrams.flows()
    }

    /// The steering word.
    pub fn word(&self) -> SteeringWord {
        SteeringWord::from_bits(self.steering.load(steering::WORD))
    }

    /// Has the connections that come through listeners of `cgroup` counted for `generation`, from
    /// the next one on.
    pub fn count(&self, generation: GenerationId, cgroup: &Path) -> Result<(), DatapathError> {
        let Some(group) = self.pins.first_group() else {
            return Ok(());
        };
        make::count(&self.pins, &group, cgroup, generation)
    }

    /// Lets the processes of `cgroup`, which lies outside the service's, share the service's ports
    /// as those inside do, and refuses them the same. What was done already is left as it is.
    pub fn join_outside(
        &self,
        generation: GenerationId,
        cgroup: &Path,
    ) -> Result<(), DatapathError> {
        make::join_outside(&self.pins, cgroup, generation)
    }

    /// Refuses the service's ports in the network with this cookie to all processes below the `root` of the cgroups, but
    /// for those of the service's cgroups, of which `own` is the first.
    ///
    /// # Errors
    ///
    /// When the programs cannot be loaded or attached.
    pub fn reserve(&self, root: &Path, network: u64, own: &Cgroup) -> Result<(), DatapathError> {
        reserve::reserve(&self.pins, root, network, own)
    }

    /// Lets everybody bind the service's ports again, as far as the kernel does.
    pub fn give_up_reservation(&self) {
        reserve::give_up(&self.pins);
    }

    /// Counts a cgroup among the service's for [`ServicePath::reserve`], unless the table is full.
    pub fn allow(&self, cgroup: &Cgroup) -> Result<(), DatapathError> {
        reserve::allow(&self.pins, cgroup)
    }

    /// Undoes [`ServicePath::allow`].
    pub fn forbid(&self, cgroup: &Cgroup) {
        reserve::forbid(&self.pins, cgroup);
    }

    /// Undoes [`ServicePath::join_outside`], if it was done.
    pub fn part(&self, generation: GenerationId) {
        for (name, _) in make::OF_CGROUPS {
            unpin(&self.pins.joined(name, generation));
        }
    }

    /// Directs connections from `source` to `generation` until the guard is dropped.
    pub fn ticket(
        &self,
        source: SocketAddr,
        generation: GenerationId,
    ) -> Result<TicketGuard<'_>, DatapathError> {
        let key = TicketKey::new(source.ip(), source.port()).to_words();
        {
            let mut tables = self.tables();
            tables
                .tickets
                .insert(key, generation.raw(), 0)
                .map_err(DatapathError::map(names::TICKETS))?;
        }
        self.steering.add(steering::TICKETS, 1);
        Ok(TicketGuard { path: self, key })
    }

    fn revoke(&self, key: &[u32; TicketKey::WORDS]) {
        self.steering.add(steering::TICKETS, 1_u64.wrapping_neg());
        let mut tables = self.tables();
        if let Err(error) = tables.tickets.remove(key) {
            tracing::warn!(%error, "failed to revoke a ticket");
        }
    }

    /// Tickets of an agent that died: nobody takes them back but its successor.
    fn clear_tickets(&self) -> Result<(), DatapathError> {
        self.steering.store(steering::TICKETS, 0);
        let mut tables = self.tables();
        let left: Vec<_> = tables.tickets.keys().filter_map(Result::ok).collect();
        for key in left {
            tables
                .tickets
                .remove(&key)
                .map_err(DatapathError::map(names::TICKETS))?;
        }
        Ok(())
    }

    /// Live connections of a generation, or parked ones for `None`.
    pub fn live(&self, generation: Option<GenerationId>) -> u64 {
        self.connections(generation).live
    }

    /// A generation's connection counts, or the parking listeners' for `None`.
    pub fn connections(&self, generation: Option<GenerationId>) -> ConnectionCounts {
        let seat = generation.map_or(0, GenerationId::seat);
        let cells = self
            .tables()
            .connections
            .get(&seat, 0)
            .map_or([0; CONNECTION_CELLS], |cpus| sum(&cpus));
        let mut counts = ConnectionCounts::from_cells(&cells, self.live.tracked(seat));
        counts.live += self.live.earlier(seat);
        counts
    }

    /// How long ago a connection was opened; `None` when that is not known: it is not one of the
    /// newest [`lb_common::recent::ROWS`] of the host, or older than the service.
    pub fn age(&self, cookie: u64) -> Option<Duration> {
        self.recent.age(cookie)
    }

    /// How long the server has had a request of this connection without answering; `None` while it
    /// has none, or where that is not measured.
    pub fn unanswered(&self, cookie: u64) -> Option<Duration> {
        self.recent.unanswered(cookie)
    }

    /// Measures how long clients wait, or does so no longer. One that is on stays on when the agent
    /// has ended.
    ///
    /// # Errors
    ///
    /// What this kernel lacks. Nothing else depends on it.
    pub fn measure_latency(&self, on: bool, netns: &Netns) -> Result<(), DatapathError> {
        if !on {
            return latency::turn_off(&self.pins);
        }
        let ports = self.groups.iter().map(|group| group.address().port());
        let places = latency::Places::new(netns, ports)?;
        let done = match &self.renewal {
            Renewal::Begun => false,
            Renewal::Kept(_) => latency::is_on(&self.pins, &places)?,
            Renewal::None | Renewal::Found => latency::is_present(&self.pins, &places)?,
        };
        if done {
            return Ok(());
        }
        latency::turn_on(&self.pins, &places)
    }

    /// Counts the clients that the kernel refuses in the namespace, from now on and when the agent
    /// has ended.
    ///
    /// # Errors
    ///
    /// What this kernel lacks. Nothing else depends on it.
    pub fn count_refused(&self, netns: &Netns) -> Result<(), DatapathError> {
        refused::count(&self.pins, netns, self.renewal == Renewal::Begun)
    }

    /// How long a generation's clients waited so far, or those of the parking listeners for `None`.
    pub fn latencies(&self, generation: Option<GenerationId>) -> Latencies {
        let seat = generation.map_or(0, GenerationId::seat);
        self.latencies.at(seat)
    }

    /// How clients are asked to leave, or why they cannot be.
    ///
    /// # Errors
    ///
    /// What this kernel lacks.
    pub fn polite(&self) -> Result<&Polite, &Impolite> {
        self.polite.as_ref()
    }

    /// Sets the counts of a generation's seat to zero; for a generation that begins.
    pub fn clear_seat(&self, generation: GenerationId) -> Result<(), DatapathError> {
        let cpus = aya::util::nr_cpus()
            .map_err(|(_, error)| DatapathError::system("count the CPUs")(error))?;
        let zeros = PerCpuValues::try_from(vec![[0; CONNECTION_CELLS]; cpus])
            .map_err(DatapathError::system("make a row of zeros"))?;
        self.tables()
            .connections
            .set(generation.seat(), zeros, 0)
            .map_err(DatapathError::map(names::CONNECTIONS))?;
        self.live.clear(generation);
        if let Some(reloads) = &self.reloads {
            reloads.clear(generation);
        }
        if let Some(flows) = self.datagrams.flows() {
            flows.reopen(generation);
        }
        self.latencies.clear(generation)
    }

    /// How `steer` ended so far.
    pub fn steering_counts(&self) -> SteeringCounts {
        SteeringCounts::new(
            self.exits
                .get(&0, 0)
                .map_or([0; EXIT_CELLS], |cpus| sum(&cpus)),
        )
    }

    /// Tells `join` the declared addresses and the rules of their ports.
    fn declare(&self, declared: &Declared) -> Result<(), DatapathError> {
        let mut addresses = self.table::<[u32; ListenKey::WORDS], u32>(names::DECLARED)?;
        let mut ports = self.table::<u32, [u32; BindRule::WORDS]>(names::PORTS)?;
        for address in &declared.addresses {
            let key = ListenKey::new(address.ip(), address.port()).to_words();
            addresses
                .insert(key, 1, 0)
                .map_err(DatapathError::map(names::DECLARED))?;
            let rule = rule(declared, &declared.addresses, address.port()).to_words();
            ports
                .insert(u32::from(address.port()), rule, 0)
                .map_err(DatapathError::map(names::PORTS))?;
        }
        let udp = declared.datagram_addresses();
        for address in udp {
            let key = ListenKey::new(address.ip(), address.port()).of(true);
            addresses
                .insert(key.to_words(), 1, 0)
                .map_err(DatapathError::map(names::DECLARED))?;
            let rule = rule(declared, udp, address.port()).to_words();
            ports
                .insert(port_key(address.port(), true), rule, 0)
                .map_err(DatapathError::map(names::PORTS))?;
        }
        Ok(())
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table<K: aya::Pod, V: aya::Pod>(
        &self,
        name: &'static str,
    ) -> Result<HashMap<MapData, K, V>, DatapathError> {
        MapData::from_pin(self.pins.map(name))
            .and_then(|map| HashMap::try_from(Map::HashMap(map)))
            .map_err(DatapathError::map(name))
    }
}

/// The service's steering row.
pub(super) fn steering_row(pins: &Pins) -> Result<MappedCells, DatapathError> {
    let map = MapData::from_pin(pins.map(names::STEERING))
        .map_err(DatapathError::map(names::STEERING))?;
    MappedCells::new(map.fd(), steering::CELLS)
        .map_err(DatapathError::system("map the steering row"))
}

/// What happens to binds of `port`: undeclared ones may move to the first declared address.
fn rule(declared: &Declared, addresses: &[SocketAddr], port: u16) -> BindRule {
    let mut v4 = None;
    let mut v6 = None;
    for address in addresses.iter().filter(|a| a.port() == port) {
        match address {
            SocketAddr::V4(address) => _ = v4.get_or_insert(*address.ip()),
            SocketAddr::V6(address) => _ = v6.get_or_insert(*address.ip()),
        }
    }
    BindRule::new(declared.undeclared, declared.uid, v4, v6).steered_by(declared.steered_by)
}

/// A row summed over the CPUs.
pub(super) fn sum<const N: usize>(cpus: &PerCpuValues<[u64; N]>) -> [u64; N] {
    let mut total = [0; N];
    for cpu in cpus.iter() {
        for (total, cell) in total.iter_mut().zip(cpu) {
            *total += cell;
        }
    }
    total
}
