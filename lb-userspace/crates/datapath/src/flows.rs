//! The flows of a service: which generation each UDP client is with.

use std::{
    collections::BTreeMap,
    fmt,
    os::fd::AsFd as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use hotlb_sys::{bpf_batch, clock, mapped::MappedCells};
use lb_common::{
    FLOW_CELLS, FLOW_CLOSED, FLOW_CLOSED_UPPER, FLOW_COUNTS, FLOW_EVICTED, FLOW_IDLE, FLOW_QUIC,
    FLOW_REFRESH, FLOW_REMOVED, FLOW_WORDS, Flow, FlowExit, FlowKey, FlowRules, GenerationId,
    SeatSet, names, nanoseconds,
    quic::{Place, Quic},
    ticks,
};

use super::{error::DatapathError, pins::Pins, service::sum};

/// A count is used again until so many times what it took has passed: counting uses at most a
/// fiftieth of a CPU.
const COST: u32 = 50;
/// Nor is the table read more often than this.
const SOONEST: Duration = Duration::from_millis(20);

/// How long an eviction is news.
const RECENTLY: Duration = Duration::from_mins(10);

/// One flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEntry {
    /// Who sends to whom.
    pub key: FlowKey,
    /// Whose it is.
    pub generation: Option<GenerationId>,
    /// How long ago it began.
    pub age: Duration,
    /// How long ago its last datagram came, to an eighth of the idle time or a second.
    pub idle: Duration,
}

impl FlowEntry {
    /// Whether nothing has come since `moment` after it began.
    fn is_of_one_exchange(&self, moment: Duration) -> bool {
        self.idle > moment && self.age.saturating_sub(self.idle) <= moment
    }
}

/// How `steer_udp` ended so far, and what it did to the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramCounts {
    cells: [u64; FLOW_COUNTS],
}

impl DatagramCounts {
    /// How often the program ran: once a train of datagrams where the kernel joins them (GRO).
    pub fn calls(&self) -> u64 {
        self.cell(FlowExit::CALLS)
    }

    /// How often it ended this way.
    pub fn exits(&self, exit: FlowExit) -> u64 {
        self.cell(exit.cell())
    }

    /// Flows that began.
    pub fn begun(&self) -> u64 {
        self.cell(FlowExit::BEGUN)
    }

    /// Flows that went to another generation before they were idle.
    pub fn moved(&self) -> u64 {
        self.cell(FlowExit::MOVED)
    }

    /// Connections of QUIC that went on under another address.
    pub fn readdressed(&self) -> u64 {
        self.cell(FlowExit::READDRESSED)
    }

    /// Flows the kernel wrote no entry for.
    pub fn unwritten(&self) -> u64 {
        self.cell(FlowExit::UNWRITTEN)
    }

    fn cell(&self, index: usize) -> u64 {
        self.cells.get(index).copied().unwrap_or_default()
    }
}

/// The service's flow table, its rules and its counts.
pub struct Flows {
    rules: MappedCells,
    counts: PerCpuArray<MapData, [u64; FLOW_COUNTS]>,
    table: Mutex<Table>,
    /// The closed generations are read by `steer_udp`, and changed by whoever has this.
    closing: Mutex<()>,
}

struct Table {
    map: HashMap<MapData, [u32; FlowKey::WORDS], [u64; FLOW_WORDS]>,
    /// The same map: aya's type shows no descriptor.
    raw: MapData,
    counted: Option<Counted>,
    /// When an entry was last known to have given way.
    evicted: Option<Instant>,
    /// Why it could not be read.
    error: Option<String>,
}

/// The flows by generation, as they were a moment ago.
struct Counted {
    at: Instant,
    took: Duration,
    by_generation: BTreeMap<GenerationId, u64>,
}

impl Counted {
    fn of(&self, generation: GenerationId) -> u64 {
        let count = self.by_generation.get(&generation);
        count.copied().unwrap_or_default()
    }
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flows").finish_non_exhaustive()
    }
}

impl Flows {
    /// Opens the pins. `idle` is after how long without a datagram a flow is none any more; `None`
    /// for a service without flows. `quic` is how connections of QUIC are told apart.
    pub(super) fn open(
        pins: &Pins,
        idle: Option<Duration>,
        quic: Option<Quic>,
    ) -> Result<Self, DatapathError> {
        let map = |name: &'static str| {
            MapData::from_pin(pins.map(name)).map_err(DatapathError::map(name))
        };
        let table = HashMap::try_from(Map::LruHashMap(map(names::FLOWS)?));
        let counts = PerCpuArray::try_from(Map::PerCpuArray(map(names::DATAGRAMS)?));
        let flows = Self {
            rules: MappedCells::new(map(names::FLOW_RULES)?.fd(), FLOW_CELLS)
                .map_err(DatapathError::system("map the rules of flows"))?,
            counts: counts.map_err(DatapathError::map(names::DATAGRAMS))?,
            table: Mutex::new(Table {
                map: table.map_err(DatapathError::map(names::FLOWS))?,
                raw: map(names::FLOWS)?,
                counted: None,
                evicted: None,
                error: None,
            }),
            closing: Mutex::new(()),
        };
        flows.rules.store(FLOW_QUIC, Quic::to_bits(quic));
        flows.set_idle(idle);
        Ok(flows)
    }

    /// Whether clients stay with their generation.
    pub fn are_kept(&self) -> bool {
        self.rules.load(FLOW_IDLE) != 0
    }

    /// How `steer_udp` ended so far.
    pub fn counts(&self) -> DatagramCounts {
        DatagramCounts {
            cells: self
                .counts
                .get(&0, 0)
                .map_or([0; FLOW_COUNTS], |cpus| sum(&cpus)),
        }
    }

    /// Entries that gave way to others since the service began.
    pub fn evicted(&self) -> u64 {
        self.rules.load(FLOW_EVICTED)
    }

    /// Whether entries gave way in the last ten minutes.
    pub fn evicts(&self) -> bool {
        let at = self.table().evicted;
        at.is_some_and(|at| at.elapsed() < RECENTLY)
    }

    /// Why flows could not be read when they were last counted.
    pub fn error(&self) -> Option<String> {
        self.table().error.clone()
    }

    /// Counts, for what counting finds out; not more often than it may.
    pub fn look(&self) {
        let looked = self.by_generation();
        self.table().error = looked.err().map(|error| error.to_string());
    }

    /// Every flow that is not idle.
    ///
    /// # Errors
    ///
    /// When the kernel does not hand out the table: it is older than 5.6.
    pub fn list(&self) -> Result<Vec<FlowEntry>, DatapathError> {
        if !self.are_kept() {
            return Ok(Vec::new());
        }
        let (rules, now) = (self.rules(), now());
        let mut found = Vec::new();
        each(&self.table().raw, |key, flow, began| {
            if rules.holds(flow, now) {
                found.push(FlowEntry {
                    key: FlowKey::from_words(key),
                    generation: flow.generation,
                    age: duration(now.saturating_sub(began)),
                    idle: duration(flow.idle(now)),
                });
            }
        })?;
        Ok(found)
    }

    /// How many of the generation's flows had datagrams in one moment only, which is over: a question
    /// and its answer.
    pub fn of_one_exchange(&self, generation: GenerationId) -> usize {
        let moment = duration(self.rules().refresh);
        let flows = self.list().unwrap_or_default();
        let own = flows.iter().filter(|f| f.generation == Some(generation));
        own.filter(|flow| flow.is_of_one_exchange(moment)).count()
    }

    /// How many flows each generation has, as of a moment ago.
    ///
    /// # Errors
    ///
    /// As [`Flows::list`].
    pub fn by_generation(&self) -> Result<BTreeMap<GenerationId, u64>, DatapathError> {
        let mut table = self.table();
        Ok(self.counted(&mut table)?.by_generation.clone())
    }

    /// How many flows the generation has, as of a moment ago. A table that cannot be read has none.
    pub fn of(&self, generation: GenerationId) -> u64 {
        let mut table = self.table();
        let counted = self.counted(&mut table).inspect_err(not_counted);
        counted.map_or(0, |counted| counted.of(generation))
    }

    /// Has no flow stay with the generation any more, unless it has one now: what came in the last
    /// moment counts. Says whether that is so: a table that cannot be read may have one.
    ///
    /// `leaves` says whether the generation still drains, and is asked when nothing can come between.
    pub fn close_if_none(&self, generation: GenerationId, leaves: impl FnOnce() -> bool) -> bool {
        // An earlier count may not know its newest flows, and while it is closed they would be led away.
        if self.of_now(generation) != Some(0) || !self.close(generation, leaves) {
            return false;
        }
        let closed = self.of_now(generation) == Some(0);
        if !closed {
            self.reopen(generation);
        }
        closed
    }

    /// Has no flow stay with the generation from here on: they go where new ones do. Not if it does
    /// not leave any more; says so.
    pub fn close(&self, generation: GenerationId, leaves: impl FnOnce() -> bool) -> bool {
        let closed = self.closing();
        let leaves = leaves();
        if leaves {
            self.set_closed(&closed, self.closed().with(generation));
        }
        leaves
    }

    /// Undoes [`Flows::close`].
    pub fn reopen(&self, generation: GenerationId) {
        let closed = self.closing();
        self.set_closed(&closed, self.closed().without(generation));
    }

    /// Has no flow stay with these generations, and flows stay with every other one: a former agent
    /// may have named seats in another way.
    pub fn close_only(&self, generations: impl Iterator<Item = GenerationId>) {
        let generations = generations.fold(SeatSet::EMPTY, SeatSet::with);
        let closed = self.closing();
        self.set_closed(&closed, generations);
    }

    /// Whether no flow stays with the generation.
    pub fn is_closed(&self, generation: GenerationId) -> bool {
        self.closed().has(generation)
    }

    fn closed(&self) -> SeatSet {
        SeatSet::from_cells(
            self.rules.load(FLOW_CLOSED),
            self.rules.load(FLOW_CLOSED_UPPER),
        )
    }

    /// Several drains may end at once: whoever changes the set has this lock.
    fn closing(&self) -> MutexGuard<'_, ()> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_closed(&self, _closing: &MutexGuard<'_, ()>, closed: SeatSet) {
        let [lower, upper] = closed.cells();
        self.rules.store(FLOW_CLOSED, lower);
        self.rules.store(FLOW_CLOSED_UPPER, upper);
    }

    /// The generation's flows at this moment; `None` if the table cannot be read.
    fn of_now(&self, generation: GenerationId) -> Option<u64> {
        let mut table = self.table();
        table.counted = self.count(&mut table).inspect_err(not_counted).ok();
        table.counted.as_ref().map(|counted| counted.of(generation))
    }

    /// A count that is not older than it may be.
    fn counted<'table>(&self, table: &'table mut Table) -> Result<&'table Counted, DatapathError> {
        let fresh = |counted: &Counted| {
            counted.at.elapsed() < SOONEST.max(counted.took.saturating_mul(COST))
        };
        let counted = match table.counted.take().filter(fresh) {
            Some(counted) => counted,
            None => self.count(table)?,
        };
        Ok(table.counted.insert(counted))
    }

    fn count(&self, table: &mut Table) -> Result<Counted, DatapathError> {
        let began = clock::now();
        let mut by_generation = BTreeMap::new();
        if self.are_kept() {
            let (rules, now) = (self.rules(), now());
            let made = self.counts().cell(FlowExit::MADE);
            let mut present = 0_u64;
            let mut over = Vec::new();
            each(&table.raw, |key, flow, _began| {
                present += 1;
                match flow.generation {
                    Some(generation) if rules.holds(flow, now) => {
                        *by_generation.entry(generation).or_default() += 1;
                    }
                    _ => over.push(*key),
                }
            })?;
            if self.note_evicted(made, present) {
                table.evicted = Some(clock::now());
            }
            self.remove(table, &over);
        }
        Ok(Counted {
            at: clock::now(),
            took: began.elapsed(),
            by_generation,
        })
    }

    /// What was made, and neither is there nor was removed, has given way. Never more than that:
    /// what was made is read first. Says whether it is more than was known.
    fn note_evicted(&self, made: u64, present: u64) -> bool {
        let evicted = made.saturating_sub(present + self.rules.load(FLOW_REMOVED));
        let grew = evicted > self.evicted();
        if grew {
            self.rules.store(FLOW_EVICTED, evicted);
        }
        grew
    }

    /// Makes room: an entry of an idle flow is not to be counted as evicted.
    fn remove(&self, table: &mut Table, over: &[[u32; FlowKey::WORDS]]) {
        for key in over {
            if table.map.remove(key).is_ok() {
                self.rules.add(FLOW_REMOVED, 1);
            }
        }
    }

    fn set_idle(&self, idle: Option<Duration>) {
        let Some(idle) = idle else {
            return self.rules.store(FLOW_IDLE, 0);
        };
        let rules = FlowRules::of(u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX));
        self.rules.store(FLOW_REFRESH, rules.refresh);
        self.rules.store(FLOW_IDLE, rules.idle);
    }

    fn rules(&self) -> FlowRules {
        FlowRules {
            idle: self.rules.load(FLOW_IDLE),
            refresh: self.rules.load(FLOW_REFRESH),
            closed: self.closed(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `status` says it, by [`Flows::error`].
fn not_counted(error: &DatapathError) {
    tracing::debug!(%error, "failed to count flows");
}

fn each(
    map: &MapData,
    mut each: impl FnMut(&[u32; FlowKey::WORDS], Flow, u64),
) -> Result<(), DatapathError> {
    bpf_batch::entries(
        map.fd().as_fd(),
        |key, &[flow, place]: &[u64; FLOW_WORDS]| {
            each(key, Flow::from_bits(flow), Place::from_bits(place).began);
        },
    )
    .map_err(DatapathError::system("read the flow table"))
}

/// This moment, as `steer_udp` writes it down.
fn now() -> u64 {
    ticks(u64::try_from(clock::monotonic().as_nanos()).unwrap_or(u64::MAX))
}

fn duration(ticks: u64) -> Duration {
    Duration::from_nanos(nanoseconds(ticks))
}
