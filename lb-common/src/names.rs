//! Names of programs and maps in the eBPF object; a test compares them with the object.

/// `sk_reuseport`, migrate attach type: chooses the socket of a connection.
pub const STEER: &str = "steer";
/// `sk_reuseport`: chooses the socket of a datagram.
pub const STEER_UDP: &str = "steer_udp";
/// cgroup bind4: lets unmodified servers share the service's ports.
pub const JOIN4: &str = "join4";
/// cgroup bind6: the same for IPv6.
pub const JOIN6: &str = "join6";
/// cgroup bind4 of the whole host: keeps the service's ports for its own processes.
pub const RESERVE4: &str = "reserve4";
/// cgroup bind6: the same for IPv6.
pub const RESERVE6: &str = "reserve6";
/// cgroup setsockopt: keeps the service's sockets in its groups.
pub const OPTIONS: &str = "options";
/// sockops: counts the connections of one generation, whose cgroup it is attached to.
pub const TRACK: &str = "track";
/// Which generation an instance of `track` counts for: its id, 0 for the parking listener. Set
/// before it is loaded.
pub const GENERATION: &str = "GENERATION";
/// `sk_msg`: asks HTTP/1.1 clients to leave after the current response.
pub const POLITE: &str = "polite";
/// `tc` at egress: does the same in the packets, for kernels where a server could not read on otherwise.
pub const LEAVE: &str = "leave";
/// Socket storage: [`crate::Begun`] of a connection whose client [`LEAVE`] asks.
pub const BEGUN: &str = "BEGUN";
/// Socket storage: [`crate::Segments`] of such a connection.
pub const SEGMENTS: &str = "SEGMENTS";
/// Constants of the programs that say where the running kernel's `struct tcp_sock` has a field, in
/// bytes, and the field.
pub const TCP_FIELDS: [(&str, &str); 12] = [
    ("BYTES_RECEIVED_AT", "bytes_received"),
    ("RCV_NXT_AT", "rcv_nxt"),
    ("COPIED_SEQ_AT", "copied_seq"),
    ("ERROR_AT", "inet_conn.icsk_inet.sk.sk_err"),
    ("SOCKET_AT", "inet_conn.icsk_inet.sk.sk_socket"),
    ("RECEIVED_TIME_AT", "inet_conn.icsk_ack.lrcvtime"),
    ("SENT_TIME_AT", "lsndtime"),
    ("WRITE_SEQ_AT", "write_seq"),
    ("FLAGS_AT", "inet_conn.icsk_inet.sk.__sk_common.skc_flags"),
    ("PORT_AT", "inet_conn.icsk_inet.sk.__sk_common.skc_num"),
    ("COOKIE_AT", "inet_conn.icsk_inet.sk.__sk_common.skc_cookie"),
    (
        "NETWORK_AT",
        "inet_conn.icsk_inet.sk.__sk_common.skc_net.net",
    ),
];
/// The ports that [`RECEIVED`] and [`SENT`] look at, as [`crate::recent::port_bit`]s. Set before
/// they are loaded.
pub const PORT_BITS: &str = "PORT_BITS";
/// Constants of [`REFUSED`] that say where the running kernel has a field of a packet, of a device and
/// of a network namespace, in bytes; the structure, and the field.
pub const PACKET_FIELDS: [(&str, &str, &str); 6] = [
    ("HEAD_AT", "sk_buff", "head"),
    ("NETWORK_HEADER_AT", "sk_buff", "network_header"),
    ("TRANSPORT_HEADER_AT", "sk_buff", "transport_header"),
    ("DEVICE_AT", "sk_buff", "dev"),
    ("NAMESPACE_AT", "net_device", "nd_net.net"),
    ("INODE_AT", "net", "ns.inum"),
];
/// Constant of [`REFUSED`]: 1 if it is attached to [`RESETS`], not to [`DROPS`].
pub const AT_RESETS: &str = "AT_RESETS";
/// The kernel's tracepoint of packets that are answered by a reset.
pub const RESETS: &str = "tcp_send_reset";
/// The kernel's tracepoint of packets that are dropped.
pub const DROPS: &str = "kfree_skb";
/// Constant of [`REFUSED`]: the inode of the network namespace that the service is in.
pub const OWN_NAMESPACE: &str = "OWN_NAMESPACE";
/// Constant of [`REFUSED`]: why the kernel drops what no socket takes (`enum skb_drop_reason`), the
/// name of that.
pub const NO_SOCKET: (&str, &str) = ("NO_SOCKET", "SKB_DROP_REASON_NO_SOCKET");
/// Tracepoint program: the server has read from a connection.
pub const RECEIVED: &str = "received";
/// Tracepoint program: the server has written to a connection.
pub const SENT: &str = "sent";
/// Raw tracepoint program: the kernel resets, or drops, what no socket takes.
pub const REFUSED: &str = "refused";
/// Task iterator: where threads of generations wait. Loaded by the profiler alone.
pub const WAITING: &str = "waiting";
/// Constants of `waiting` that say where the running kernel's `struct task_struct` has a field, in
/// bytes, and the field.
pub const TASK_FIELDS: [(&str, &str); 6] = [
    ("TID_AT", "pid"),
    ("PID_AT", "tgid"),
    ("STATE_AT", "__state"),
    ("ON_CPU_AT", "on_cpu"),
    ("GAVE_UP_AT", "nvcsw"),
    ("TAKEN_AT", "nivcsw"),
];
/// Constants of `waiting` that say where the architecture's `struct pt_regs` has the instruction,
/// stack and frame pointer and the link register, in bytes; [`NO_REGISTER`] for none.
pub const REGISTERS: [&str; 4] = ["IP_AT", "SP_AT", "FP_AT", "LR_AT"];
/// Of a register the architecture does not have.
pub const NO_REGISTER: u32 = u32::MAX;
/// Ring buffer of `waiting`'s records, see [`crate::wait`].
pub const WAITS: &str = "WAITS";
/// Process to the number of its generation.
pub const MEMBERS: &str = "MEMBERS";
/// Thread to how it was found last.
pub const SEEN: &str = "SEEN";
/// Totals of `waiting`, see [`crate::wait`].
pub const WAIT_TOTALS: &str = "WAIT_TOTALS";
/// Maps of `waiting`. In the object they are as small as maps can be; the profiler says how large
/// they are made.
pub const OF_WAITING: [&str; 3] = [WAITS, MEMBERS, SEEN];
/// Iterators that say whose program decides about each reuseport group, and the sockets each goes
/// through. Loaded by the agent alone.
pub const GUARDS: [(&str, &str); 2] = [("guard_tcp", "tcp"), ("guard_udp", "udp")];
/// Words of their records: the cookie of a socket, and the id of its group's program.
pub const GUARD_WORDS: usize = 2;
/// Constants of [`GUARDS`] that say where the running kernel has a field, in bytes; the structure,
/// and the field.
pub const GROUP_FIELDS: [(&str, &str, &str); 6] = [
    ("SOCKET_STATE_AT", "sock_common", "skc_state"),
    ("SOCKET_COOKIE_AT", "sock_common", "skc_cookie"),
    ("GROUP_AT", "sock", "sk_reuseport_cb"),
    ("PROGRAM_AT", "sock_reuseport", "prog"),
    ("AUX_AT", "bpf_prog", "aux"),
    ("ID_AT", "bpf_prog_aux", "id"),
];
/// Program at a perf event: whether the interrupted task is of a cgroup, and where it was. Loaded by
/// the profiler alone.
pub const SAMPLE: &str = "sample";
/// Constant of `sample`: not 0 if it counts, and lets no record be written.
pub const COUNTING: &str = "COUNTING";
/// Constants of `sample` that say where the architecture's `struct pt_regs` has the mode of the CPU,
/// which bits of it count, and what they are in a user's program of 64 bits.
pub const MODE: [&str; 3] = ["MODE_AT", "MODE_MASK", "MODE_USER"];
/// The cgroup whose tasks are sampled.
pub const SAMPLED: &str = "SAMPLED";
/// Stacks by their numbers, see [`crate::sample`].
pub const STACKS: &str = "STACKS";
/// Samples by process, thread's name and pair of stacks.
pub const SAMPLES: &str = "SAMPLES";
/// By CPU, where a stack is put together.
pub const DRAFTS: &str = "DRAFTS";
/// Totals of `sample`, see [`crate::sample`].
pub const SAMPLE_TOTALS: &str = "SAMPLE_TOTALS";
/// Maps of `sample` whose size the profiler says, as of [`OF_WAITING`].
pub const OF_SAMPLE: [&str; 3] = [STACKS, SAMPLES, DRAFTS];
/// `sk_reuseport` that does nothing: the yardstick of `cargo xtask bench`.
pub const NOOP: &str = "noop";

/// The steering row, see [`crate::steering`]; memory-mapped.
pub const STEERING: &str = "STEERING";
/// Per-CPU exits of `steer`, see [`crate::Exit`].
pub const EXITS: &str = "EXITS";
/// Tickets: [`crate::TicketKey`] to generation id.
pub const TICKETS: &str = "TICKETS";
/// Per-CPU connection counts by seat, see [`crate::ConnectionCell`].
pub const CONNECTIONS: &str = "CONNECTIONS";
/// Live connections by seat; memory-mapped.
pub const LIVE: &str = "LIVE";
/// Listener cookie to generation id; read when a listener closes.
pub const LISTENERS: &str = "LISTENERS";
/// Connection cookie to generation id, for connections that moved.
pub const MOVED: &str = "MOVED";
/// Declared listen addresses, see [`crate::ListenKey`].
pub const DECLARED: &str = "DECLARED";
/// Rules by port, see [`crate::BindRule`].
pub const PORTS: &str = "PORTS";
/// The ids of cgroups whose processes may bind reserved ports.
pub const RESERVED: &str = "RESERVED";
/// The row of [`crate::reservation`].
pub const RESERVATION: &str = "RESERVATION";
/// Ring buffer of [`crate::Event`].
pub const EVENTS: &str = "EVENTS";
/// What is known of the newest connections, see [`crate::recent`]; memory-mapped.
pub const RECENT: &str = "RECENT";
/// Histograms by [`crate::Latency::row`]; memory-mapped.
pub const LATENCY: &str = "LATENCY";
/// The sockets `polite` runs for, by cookie; empty except while a generation drains.
pub const LEAVING: &str = "LEAVING";
/// Socket storage: [`crate::Conversation`] of a connection in [`LEAVING`].
pub const CONVERSATIONS: &str = "CONVERSATIONS";
/// Per-CPU counts of `polite`, see [`crate::PoliteCell`].
pub const POLITENESS: &str = "POLITENESS";
/// Flows: [`crate::FlowKey`] to [`crate::Flow`] and the tick it began at. In the object it has room
/// for one; the agent says how large it is made.
pub const FLOWS: &str = "FLOWS";
/// Connection ids of QUIC, as [`crate::quic::ConnectionId::key`], to the value of a flow. As large as
/// [`FLOWS`] where ids are looked at.
pub const CONNECTION_IDS: &str = "CONNECTION_IDS";
/// The service's row of [`crate::FlowRules`]; memory-mapped.
pub const FLOW_RULES: &str = "FLOW_RULES";
/// Per-CPU counts of `steer_udp`, see [`crate::FlowExit`].
pub const DATAGRAMS: &str = "DATAGRAMS";
/// Socket storage of a listener, which the kernel copies to each connection made by it: its slot.
/// Only while [`crate::Workers::Least`] is wanted.
pub const WORKER: &str = "WORKER";
/// Open connections by the slot of the listener they came through; memory-mapped.
pub const LOADS: &str = "LOADS";
/// Listeners that have no slot yet, by [`crate::FreshKey`]: `track` puts them in as they listen, the
/// agent takes them out as they get their slots.
pub const FRESH: &str = "FRESH";
/// Cookie of the listener in [`FRESH`], or 0 when it listens no longer, by the same key. The agent takes
/// it out with the listener.
pub const FRESH_COOKIES: &str = "FRESH_COOKIES";
/// By seat: when a process that lives on closed a listener, in nanoseconds of the monotonic clock; 0
/// if the last one closed with its process. Memory-mapped.
pub const CLOSINGS: &str = "CLOSINGS";
/// Socket storage of a listener that takes clients of other addresses (`IP_TRANSPARENT`), which the
/// kernel copies to each connection made by it: those are counted whatever their port.
pub const TRANSPARENT: &str = "TRANSPARENT";
/// Constant of [`TRACK`] that says where the running kernel's `struct task_struct` has its flags, in
/// bytes; 0 where it does not say.
pub const TASK_FLAGS: (&str, &str) = ("TASK_FLAGS_AT", "flags");
/// aya-log's ring buffer.
pub const LOGS: &str = "AYA_LOGS";

/// Maps of the service, shared by all its groups.
pub const SHARED: [&str; 28] = [
    STEERING,
    EXITS,
    TICKETS,
    CONNECTIONS,
    LIVE,
    LISTENERS,
    MOVED,
    DECLARED,
    PORTS,
    RESERVED,
    RESERVATION,
    EVENTS,
    RECENT,
    LATENCY,
    LEAVING,
    CONVERSATIONS,
    POLITENESS,
    FLOWS,
    CONNECTION_IDS,
    FLOW_RULES,
    DATAGRAMS,
    WORKER,
    LOADS,
    FRESH,
    FRESH_COOKIES,
    CLOSINGS,
    TRANSPARENT,
    LOGS,
];

/// Constant of [`RECEIVED`] and [`SENT`]: 1 for the instances that look at the connections of all
/// services, 0 for those of one service.
pub const FOR_ALL: &str = "FOR_ALL";
/// The ports of all services, see [`crate::watched`]; memory-mapped.
pub const WATCHED: &str = "WATCHED";
/// [`crate::watched::key`] to the service's [`RECENT`].
pub const RECENTS: &str = "RECENTS";
/// [`crate::watched::key`] to the service's [`LATENCY`].
pub const HISTOGRAMS: &str = "HISTOGRAMS";
/// Maps of the agent, shared by all services.
pub const OF_ALL: [&str; 3] = [WATCHED, RECENTS, HISTOGRAMS];

/// The group's socket array.
pub const SOCKETS: &str = "SOCKETS";
/// The group's rows by seat, see [`crate::SeatRow`]; memory-mapped.
pub const ROWS: &str = "ROWS";

/// Maps of one reuseport group.
pub const PER_GROUP: [&str; 2] = [SOCKETS, ROWS];
