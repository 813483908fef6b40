//! This process's network namespace, and how it came into it.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use procfs::process::Process;

/// The namespace's inode, by which the kernel tells it from others.
pub fn own_inode() -> io::Result<u32> {
    let inode = fs::metadata("/proc/thread-self/ns/net")?.ino();
    u32::try_from(inode).map_err(io::Error::other)
}

/// The namespace's name if this process runs below `ip netns exec NAME`. That command puts a
/// fresh /sys over the host's and so hides what is mounted below it: cgroup2 and bpffs.
pub fn entered_by_ip() -> Option<String> {
    let mounts = Process::myself()
        .and_then(|myself| myself.mountinfo())
        .ok()?;
    // The last one mounted there is the one that is seen.
    let sys = mounts
        .0
        .into_iter()
        .rfind(|mount| mount.mount_point == Path::new("/sys"))?;
    // iproute2 gives the mount the namespace's name as its source.
    let source = sys.mount_source.filter(|_| sys.fs_type == "sysfs")?;
    let known = |directory: &str| Path::new(directory).join(&source).exists();
    let is_netns = !source.contains('/') && (known("/run/netns") || known("/var/run/netns"));
    is_netns.then_some(source)
}
