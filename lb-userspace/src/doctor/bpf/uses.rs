//! What hotlb uses of eBPF, what it costs to be without, and what gives it: a table.

use lb_common::names;

/// Why a program or map type is needed, and what gives it.
pub(super) struct Use {
    pub(super) name: &'static str,
    pub(super) cost: &'static str,
    pub(super) advice: &'static str,
}

/// Program types.
pub(super) const PROGRAM_TYPES: [Use; 5] = [
    Use {
        name: "sk_reuseport",
        cost: "nothing chooses which generation gets a connection: hotlb does not work",
        advice: "use a kernel with CONFIG_BPF_SYSCALL and CONFIG_INET, 4.19 or later",
    },
    Use {
        name: "cgroup_sock_addr",
        cost: "servers that do not set SO_REUSEPORT themselves cannot share a port",
        advice: "use a kernel with CONFIG_CGROUP_BPF, 4.17 or later",
    },
    Use {
        name: "cgroup_sockopt",
        cost: "a server that binds its socket to a device takes that device's clients, and hotlb can only say so",
        advice: "use a kernel with CONFIG_CGROUP_BPF, 5.3 or later",
    },
    Use {
        name: "sock_ops",
        cost: "connections are not counted: hotlb cannot tell when a drain is over",
        advice: "use a kernel with CONFIG_CGROUP_BPF, 4.13 or later",
    },
    Use {
        name: "sk_msg",
        cost: IMPOLITE,
        advice: "use a kernel with CONFIG_NET_SOCK_MSG, 4.17 or later",
    },
];

/// Map types.
pub(super) const MAP_TYPES: [Use; 8] = [
    Use {
        name: "reuseport_sockarray",
        cost: "there is nowhere to put listeners: hotlb does not work",
        advice: "use a kernel with CONFIG_INET, 4.19 or later",
    },
    Use {
        name: "ringbuf",
        cost: "the agent hears of nothing that happens in the kernel",
        advice: "use Linux 5.8 or later",
    },
    Use {
        name: "lru_hash",
        cost: "the flows of UDP services cannot be followed",
        advice: "use Linux 4.10 or later",
    },
    Use {
        name: "hash",
        cost: "no tickets and no declared addresses: hotlb does not work",
        advice: "use a kernel with CONFIG_BPF_SYSCALL",
    },
    Use {
        name: "percpu_array",
        cost: "nothing is counted",
        advice: "use Linux 4.6 or later",
    },
    Use {
        name: "array",
        cost: "there is no steering word: hotlb does not work",
        advice: "use a kernel with CONFIG_BPF_SYSCALL",
    },
    Use {
        name: "sockhash",
        cost: "hotlb's programs cannot be loaded",
        advice: "use a kernel with CONFIG_NET, 4.18 or later",
    },
    Use {
        name: "sk_storage",
        cost: "hotlb's programs cannot be loaded",
        advice: "use Linux 5.2 or later",
    },
];

/// hotlb's own programs.
pub(super) const OWN_PROGRAMS: [Use; 17] = [
    Use {
        name: names::NOOP,
        cost: "a connection that waits at a listener is lost when that listener closes",
        advice: "use Linux 5.14 or later",
    },
    Use {
        name: names::STEER,
        cost: "nothing chooses which generation gets a connection: hotlb does not work",
        advice: VERIFIER,
    },
    Use {
        name: names::STEER_UDP,
        cost: NO_DATAGRAMS,
        advice: VERIFIER,
    },
    Use {
        name: names::JOIN4,
        cost: "servers that do not set SO_REUSEPORT themselves cannot share an IPv4 port",
        advice: VERIFIER,
    },
    Use {
        name: names::JOIN6,
        cost: "servers that do not set SO_REUSEPORT themselves cannot share an IPv6 port",
        advice: VERIFIER,
    },
    Use {
        name: names::OPTIONS,
        cost: "a server that binds its socket to a device takes that device's clients, and hotlb can only say so",
        advice: VERIFIER,
    },
    Use {
        name: names::RESERVE4,
        cost: "no service can have reserve = true",
        advice: VERIFIER,
    },
    Use {
        name: names::RESERVE6,
        cost: "no service can have reserve = true",
        advice: VERIFIER,
    },
    Use {
        name: names::TRACK,
        cost: "connections are not counted: hotlb cannot tell when a drain is over",
        advice: VERIFIER,
    },
    Use {
        name: names::POLITE,
        cost: IMPOLITE,
        advice: "use Linux 5.17 or later with CONFIG_DEBUG_INFO_BTF; if this one is, report it \
                 with this output",
    },
    Use {
        name: names::LEAVE,
        cost: IMPOLITE_THERE,
        advice: "use Linux 6.6 or later with CONFIG_NET_XGRESS and CONFIG_DEBUG_INFO_BTF; if this one is, report it \
                 with this output",
    },
    Use {
        name: names::REFUSED,
        cost: UNCOUNTED,
        advice: "use Linux 5.17 or later with CONFIG_DEBUG_INFO_BTF; if this one is, report it \
                 with this output",
    },
    Use {
        name: names::RECEIVED,
        cost: UNMEASURED,
        advice: TRACEPOINTS,
    },
    Use {
        name: names::SENT,
        cost: UNMEASURED,
        advice: TRACEPOINTS,
    },
    Use {
        name: names::GUARDS[0].0,
        cost: UNGUARDED,
        advice: ITERATORS,
    },
    Use {
        name: names::GUARDS[1].0,
        cost: UNGUARDED,
        advice: ITERATORS,
    },
    Use {
        name: names::SAMPLE,
        cost: UNFILTERED,
        advice: "use Linux 5.15 or later with CONFIG_DEBUG_INFO_BTF; if this one is, report it \
                 with this output",
    },
];

/// hotlb's own maps, all of them.
pub(super) const OWN_MAPS: Use = Use {
    name: "maps",
    cost: "hotlb's programs cannot be loaded",
    advice: "see the map types; if they are all there, report it with this output",
};

/// Reading while the client is asked by the messages of its server.
pub(super) const READING: Use = Use {
    name: "reading while clients are asked to leave",
    cost: HALF_POLITE,
    advice: "nothing is harmed; docs/user/kernels.md names kernels on which servers read on",
};

/// The same where packets cannot be changed.
pub(super) const READING_ALONE: Use = Use {
    cost: IMPOLITE,
    advice: "nothing is harmed, because no client is asked here; docs/user/kernels.md names kernels on \
             which servers read on",
    ..READING
};

/// An array that user space maps into its memory.
pub(super) const MAPPED: Use = Use {
    name: "array, memory-mapped",
    cost: "the steering word cannot be moved by one store",
    advice: "use Linux 5.5 or later",
};

/// What is lost without polite drain; everything else works.
const IMPOLITE: &str = "HTTP/1.1 clients are not asked to leave a draining generation: kept \
                        connections end when the server closes them, which a client may take \
                        for an error";

/// What is lost without `leave`; everything else works.
const IMPOLITE_THERE: &str = "where servers cannot read on while their clients are asked by messages, no client is \
                              asked to leave a draining generation";
/// What is lost where clients are not asked by messages; everything else works.
const HALF_POLITE: &str = "HTTP/1.1 clients are asked to leave a draining generation by packets (hotlb's program \
                           leave), which cannot put the header in where a server leaves it out";

/// What is lost without `refused`; everything else works.
const UNCOUNTED: &str = "clients that are refused since nothing listens are not counted";
/// What is lost without `steer_udp`; everything else works.
const NO_DATAGRAMS: &str = "services with udp:// addresses cannot be opened";
/// What is lost without the iterators over sockets; everything else works.
const UNGUARDED: &str = "programs that others attach to a service's group cannot be detected";
const ITERATORS: &str = "use Linux 5.10 or later with CONFIG_DEBUG_INFO_BTF; if this one is, report it \
                         with this output";
/// What is lost without the tracepoints of reads and writes; everything else works.
const UNMEASURED: &str = "the time to an answer is not measured";

/// What is lost without `sample`; everything else works.
const UNFILTERED: &str = "`hotlb profile` samples by events of the cgroup, which cost the server more, \
                          and follows no frame pointers itself";

const TRACEPOINTS: &str = "use Linux 6.3 or later with CONFIG_DEBUG_INFO_BTF; if this one is, report \
                           it with this output";

impl Use {
    /// Whether hotlb works without it.
    pub(super) fn is_optional(&self) -> bool {
        let optional = [
            IMPOLITE,
            IMPOLITE_THERE,
            HALF_POLITE,
            UNCOUNTED,
            UNMEASURED,
            UNFILTERED,
            UNGUARDED,
            NO_DATAGRAMS,
        ];
        optional.contains(&self.cost)
    }
}

const VERIFIER: &str = "use Linux 5.14 or later; if this one is, report it with this output";
