//! What this process may do, compared with what hotlb needs.

use std::{fs, os::unix::fs::MetadataExt as _};

use caps::{CapSet, Capability};

/// What the agent cannot work without.
pub const NEEDED: [Capability; 9] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_BPF,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_KILL,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
];

/// Those of [`NEEDED`] that this process does not hold.
pub fn lacking() -> Vec<Capability> {
    let holds = |&capability: &Capability| {
        caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
    };
    NEEDED
        .into_iter()
        .filter(|capability| !holds(capability))
        .collect()
}

/// Whether limits of resources do not hold for this process.
pub fn exceeds_resources() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE).unwrap_or(false)
}

/// The inode of the host's own user namespace: `PROC_USER_INIT_INO` in `linux/proc_ns.h`.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether this process is in the host's own user namespace. In another one capabilities count
/// for little: bpf(2) and most of what hotlb does are refused.
pub fn in_initial_user_namespace() -> bool {
    fs::metadata("/proc/self/ns/user").is_ok_and(|file| file.ino() == INITIAL_USER_NAMESPACE)
}
