//! Names of programs and maps in the eBPF object; a test compares them with the object.

/// `sk_reuseport`, migrate attach type: chooses the socket of a connection.
pub const STEER: &str = "steer";
/// cgroup bind4: lets unmodified servers share the service's ports.
pub const JOIN4: &str = "join4";
/// cgroup bind6: the same for IPv6.
pub const JOIN6: &str = "join6";
/// sockops: counts the connections of one generation, whose cgroup it is attached to.
pub const TRACK: &str = "track";
/// Which generation an instance of `track` counts for: its id, 0 for the parking listener. Set
/// before it is loaded.
pub const GENERATION: &str = "GENERATION";
/// `sk_msg`: asks HTTP/1.1 clients to leave after the current response.
pub const POLITE: &str = "polite";
/// Constants of the programs that say where the running kernel's `struct tcp_sock` has a field, in
/// bytes, and the field.
pub const TCP_FIELDS: [(&str, &str); 10] = [
    ("BYTES_RECEIVED_AT", "bytes_received"),
    ("RCV_NXT_AT", "rcv_nxt"),
    ("COPIED_SEQ_AT", "copied_seq"),
    ("ERROR_AT", "inet_conn.icsk_inet.sk.sk_err"),
    ("SOCKET_AT", "inet_conn.icsk_inet.sk.sk_socket"),
    ("RECEIVED_TIME_AT", "inet_conn.icsk_ack.lrcvtime"),
    ("SENT_TIME_AT", "lsndtime"),
    ("WRITE_SEQ_AT", "write_seq"),
    ("PORT_AT", "inet_conn.icsk_inet.sk.__sk_common.skc_num"),
    ("COOKIE_AT", "inet_conn.icsk_inet.sk.__sk_common.skc_cookie"),
];
/// The ports that [`RECEIVED`] and [`SENT`] look at, as [`crate::recent::port_bit`]s. Set before
/// they are loaded.
pub const PORT_BITS: &str = "PORT_BITS";
/// Tracepoint program: the server has read from a connection.
pub const RECEIVED: &str = "received";
/// Tracepoint program: the server has written to a connection.
pub const SENT: &str = "sent";
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
/// Socket storage of a listener, which the kernel copies to each connection made by it: its slot.
/// Only while [`crate::Workers::Least`] is wanted.
pub const WORKER: &str = "WORKER";
/// Open connections by the slot of the listener they came through; memory-mapped.
pub const LOADS: &str = "LOADS";
/// aya-log's ring buffer.
pub const LOGS: &str = "AYA_LOGS";

/// Maps of the service, shared by all its groups.
pub const SHARED: [&str; 18] = [
    STEERING,
    EXITS,
    TICKETS,
    CONNECTIONS,
    LIVE,
    LISTENERS,
    MOVED,
    DECLARED,
    PORTS,
    EVENTS,
    RECENT,
    LATENCY,
    LEAVING,
    CONVERSATIONS,
    POLITENESS,
    WORKER,
    LOADS,
    LOGS,
];

/// The group's socket array.
pub const SOCKETS: &str = "SOCKETS";
/// The group's rows by seat, see [`crate::SeatRow`]; memory-mapped.
pub const ROWS: &str = "ROWS";

/// Maps of one reuseport group.
pub const PER_GROUP: [&str; 2] = [SOCKETS, ROWS];
