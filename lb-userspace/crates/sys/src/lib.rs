//! The operating system, below everything: sockets, cgroups, pidfds, mounts, memory maps, clocks.
//!
//! The only crate in user space with `unsafe`. It depends on no other crate of hotlb, and knows
//! nothing of services or generations.

pub mod bpf;
pub mod bpf_batch;
pub mod bpf_copy;
pub mod bpf_link;
mod bpf_raw;
pub mod cgroup;
pub mod cgroup_limits;
pub mod clock;
pub mod devices;
pub mod disk;
pub mod environment;
pub mod established;
pub mod fifo;
pub mod file_view;
pub mod heap;
pub mod inspect;
pub mod listener;
pub mod listing;
pub mod locks;
pub mod mapped;
pub mod mounts;
pub mod netns;
pub mod os_text;
pub mod packets;
pub mod perf;
pub mod pidfd;
pub mod plain;
pub mod privilege;
pub mod process;
pub mod reach;
pub mod reader;
pub mod sock_diag;
pub mod supervisor;
pub mod sysctl;
pub mod tcp_info;
pub mod users;
pub mod wake;
pub mod watch;
