//! Kernel parameters under /proc/sys, read only. Those of `net` are the ones of the network
//! namespace this process is in.

use std::{fs, path::PathBuf};

/// The value of a parameter such as `net.core.somaxconn`; `None` if this kernel, or this network
/// namespace, does not show it.
pub fn read(name: &str) -> Option<i64> {
    text(name)?.parse().ok()
}

/// The value of a parameter as the kernel writes it, without the line end.
pub fn text(name: &str) -> Option<String> {
    let path: PathBuf = ["/proc/sys", &name.replace('.', "/")].iter().collect();
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_text() {
        assert!(read("kernel.pid_max").unwrap() > 0);
        assert!(text("kernel.osrelease").unwrap().contains('.'));
        assert_eq!(read("kernel.osrelease"), None);
        assert_eq!(text("hotlb.no_such"), None);
    }
}
