//! The operating system, below everything: sockets, cgroups, pidfds, mounts, memory maps.
//!
//! Together with `lb-ebpf` the only place with `unsafe`. Knows nothing of services or
//! generations.

pub mod bpf;
pub mod bpf_batch;
pub mod cgroup;
pub mod established;
pub mod file_view;
pub mod heap;
pub mod inspect;
pub mod listener;
pub mod listing;
pub mod locks;
pub mod mapped;
pub mod mounts;
pub mod netns;
pub mod packets;
pub mod perf;
pub mod pidfd;
pub mod privilege;
pub mod process;
pub mod reach;
pub mod reader;
pub mod sock_diag;
pub mod supervisor;
pub mod sysctl;
pub mod tcp_info;
pub mod users;
pub mod watch;
