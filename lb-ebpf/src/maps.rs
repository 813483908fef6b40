//! The maps. Names, keys and values are `lb_common`'s; see `lb_common::names`.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{
        Array, HashMap, HashOfMaps, LruHashMap, PerCpuArray, RingBuf, SkStorage, SockHash,
        reuseport_sock_array::ReusePortSockArrayImpl,
    },
    macros::btf_map,
};

use lb_common::{
    ASKED, Begun, BindRule, CONNECTION_CELLS, Conversation, EVENT_WORDS, EXIT_CELLS, FLOW_CELLS,
    FLOW_COUNTS, FLOW_WORDS, FlowKey, FreshKey, HISTOGRAM_WORDS, LATENCIES, ListenKey, MOVES,
    POLITE_CELLS, SEATS, SLOTS, Segments, TicketKey, recent, reservation, steering, watched,
};

use crate::storage::ClonedStorage;

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// The service's steering row.
#[btf_map]
pub static STEERING: Array<[u64; steering::CELLS], 1, MMAPABLE> = Array::new();

/// Exits of `steer`, per CPU.
#[btf_map]
pub static EXITS: PerCpuArray<[u64; EXIT_CELLS], 1> = PerCpuArray::new();

/// Tickets in force.
#[btf_map]
pub static TICKETS: HashMap<[u32; TicketKey::WORDS], u32, 1024> = HashMap::new();

/// Connection counts by seat, per CPU.
#[btf_map]
pub static CONNECTIONS: PerCpuArray<[u64; CONNECTION_CELLS], { SEATS as usize }> =
    PerCpuArray::new();

/// Live connections by seat.
#[btf_map]
pub static LIVE: Array<u64, { SEATS as usize }, MMAPABLE> = Array::new();

/// Listener cookie to generation id: of those that listen, and of those that closed lately.
#[btf_map]
pub static LISTENERS: HashMap<u64, u32, { 2 * SLOTS as usize }, NO_PREALLOC> = HashMap::new();

/// Cookie of a connection that moved to the generation it moved to, until it closes. Few connections
/// ever move, so its entries are not made beforehand: they would be 5 MiB a service.
#[btf_map]
pub static MOVED: HashMap<u64, u32, { MOVES }, NO_PREALLOC> = HashMap::new();

/// Declared listen addresses.
#[btf_map]
pub static DECLARED: HashMap<[u32; ListenKey::WORDS], u32, 64> = HashMap::new();

/// Rules by port.
#[btf_map]
pub static PORTS: HashMap<u32, [u32; BindRule::WORDS], 64> = HashMap::new();

/// The cgroups whose processes may bind reserved ports.
#[btf_map]
pub static RESERVED: HashMap<u64, u32, 256, NO_PREALLOC> = HashMap::new();

/// What is reserved, see [`lb_common::reservation`].
#[btf_map]
pub static RESERVATION: Array<[u64; reservation::CELLS], 1> = Array::new();

/// Events for the agent.
#[btf_map]
pub static EVENTS: RingBuf<[u32; EVENT_WORDS], 65536> = RingBuf::new();

/// The newest connections, by the rest of their cookie.
#[btf_map]
pub static RECENT: Array<[u64; recent::WORDS], { recent::ROWS }, MMAPABLE> = Array::new();

/// Histograms of durations, by generation.
#[btf_map]
pub static LATENCY: Array<[u64; HISTOGRAM_WORDS], { LATENCIES * SEATS as usize }, MMAPABLE> =
    Array::new();

/// The ports of all services.
#[btf_map]
pub static WATCHED: Array<u64, { watched::WORDS as usize }, MMAPABLE> = Array::new();

/// Ports to the table of the newest connections of the service that has them.
#[btf_map]
pub static RECENTS: HashOfMaps<
    u64,
    Array<[u64; recent::WORDS], { recent::ROWS }, MMAPABLE>,
    { watched::PLACES },
    NO_PREALLOC,
> = HashOfMaps::new();

/// Ports to the histograms of the service that has them.
#[btf_map]
pub static HISTOGRAMS: HashOfMaps<
    u64,
    Array<[u64; HISTOGRAM_WORDS], { LATENCIES * SEATS as usize }, MMAPABLE>,
    { watched::PLACES },
    NO_PREALLOC,
> = HashOfMaps::new();

/// The sockets `polite` runs for, by cookie.
#[btf_map]
pub static LEAVING: SockHash<u64, ASKED> = SockHash::new();

/// What `polite` knows of each of them; gone with the socket.
#[btf_map]
pub static CONVERSATIONS: SkStorage<[u64; Conversation::STORAGE]> = SkStorage::new();

/// How a connection stood when `leave` was to ask its client. User space gives it and takes it.
#[btf_map]
pub static BEGUN: SkStorage<[u64; Begun::WORDS]> = SkStorage::new();

/// What `leave` knows of such a connection; gone with the socket.
#[btf_map]
pub static SEGMENTS: SkStorage<[u64; Segments::STORAGE]> = SkStorage::new();

/// Counts of `polite` and `leave`, per CPU.
#[btf_map]
pub static POLITENESS: PerCpuArray<[u64; POLITE_CELLS], 1> = PerCpuArray::new();

/// UDP flows. The agent says how large the map is made.
#[btf_map]
pub static FLOWS: LruHashMap<[u32; FlowKey::WORDS], [u64; FLOW_WORDS], 1> = LruHashMap::new();

/// Connection ids of QUIC. The agent says how large the map is made.
#[btf_map]
pub static CONNECTION_IDS: LruHashMap<u64, [u64; FLOW_WORDS], 1> = LruHashMap::new();

/// The rules of flows.
#[btf_map]
pub static FLOW_RULES: Array<[u64; FLOW_CELLS], 1, MMAPABLE> = Array::new();

/// Exits of `steer_udp`, per CPU.
#[btf_map]
pub static DATAGRAMS: PerCpuArray<[u64; FLOW_COUNTS], 1> = PerCpuArray::new();
/// The slot of a listener, and of each connection made by it.
#[btf_map]
pub static WORKER: ClonedStorage<u64> = ClonedStorage::new();

/// Open connections by the slot of the listener they came through.
#[btf_map]
pub static LOADS: Array<u64, { SLOTS as usize }, MMAPABLE> = Array::new();

/// Listeners without a slot.
#[btf_map]
pub static FRESH: SockHash<[u32; FreshKey::WORDS], { lb_common::FRESH }> = SockHash::new();

/// Cookie of the listener in [`FRESH`], or 0 when it listens no longer: one that is shut down stays in
/// there until it is closed.
#[btf_map]
pub static FRESH_COOKIES: HashMap<[u32; FreshKey::WORDS], u64, { lb_common::FRESH }, NO_PREALLOC> =
    HashMap::new();

/// When a listener was closed by a process that lives on, by seat.
#[btf_map]
pub static CLOSINGS: Array<u64, { SEATS as usize }, MMAPABLE> = Array::new();

/// Of a transparent listener, and of each connection made by it.
#[btf_map]
pub static TRANSPARENT: ClonedStorage<u64> = ClonedStorage::new();

/// The group's sockets. Values of eight bytes, so that user space can read the cookies back
/// (with four it gets ENOSPC); aya's own type insists on four.
#[btf_map]
pub static SOCKETS: ReusePortSockArrayImpl<u64, { SLOTS as usize }> = ReusePortSockArrayImpl::new();

/// The group's rows by seat.
#[btf_map]
pub static ROWS: Array<u64, { SEATS as usize }, MMAPABLE> = Array::new();
