//! The test harness of hotlb: network namespaces, the agent, real servers, and clients that count.
//!
//! Every integration test in `tests/tests/it` takes a [`host::Host`] (a namespace with an agent of its own) or a bare
//! [`netns::Netns`], starts servers through [`servers`], and looks at them through [`load`] and [`waiting`].
//! Everything made here is removed again on drop, after a panic too.

pub mod adoption;
pub mod alone;
pub mod api;
pub mod cgroups;
pub mod command;
pub mod cycles;
pub mod datagrams;
pub mod dns;
pub mod everywhere;
pub mod exposition;
pub mod failure;
pub mod fleet;
pub mod footprint;
pub mod former;
pub mod heartbeat;
pub mod held;
pub mod history;
pub mod host;
pub mod http;
pub mod incidents;
pub mod kept;
pub mod load;
pub mod locate;
pub mod mounts;
pub mod netns;
pub mod otlp;
pub mod parts;
pub mod patience;
pub mod polite;
pub mod priority;
pub mod process;
pub mod profile;
pub mod prometheus;
pub mod quic;
pub mod report;
pub mod script;
pub mod servers;
pub mod soak;
pub mod stale;
pub mod status;
pub mod targets;
pub mod turn;
pub mod units;
pub mod wait;
pub mod waiting;
pub mod wrk;
