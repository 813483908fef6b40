//! Why the kernel makes no further cgroup: it says EAGAIN, and not which of the limits above is met.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A limit of a cgroup above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitMet {
    /// The file that holds it.
    pub file: PathBuf,
    /// How many it allows.
    pub limit: u64,
}

/// The limit that keeps a cgroup from being made at `path`.
pub fn met(path: &Path) -> Option<LimitMet> {
    // From 1: the depth of `path` below each directory above it.
    let above = path.ancestors().skip(1).zip(1_u64..);
    above
        .take_while(|(directory, _)| directory.join("cgroup.procs").exists() || !directory.exists())
        .find_map(|(directory, depth)| {
            let limit = |name: &str, has: Option<u64>| {
                let file = directory.join(name);
                let limit: u64 = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
                (has? >= limit).then_some(LimitMet { file, limit })
            };
            limit("cgroup.max.descendants", descendants(directory))
                // `depth` levels are wanted; it fails when that is more than there may be.
                .or_else(|| limit("cgroup.max.depth", depth.checked_sub(1)))
        })
}

fn descendants(directory: &Path) -> Option<u64> {
    let stat = fs::read_to_string(directory.join("cgroup.stat")).ok()?;
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("nr_descendants "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like a cgroup.
    fn cgroup(path: &Path, descendants: &str, depth: &str, has: u32) {
        fs::create_dir_all(path).unwrap();
        for (name, text) in [
            ("cgroup.procs", String::new()),
            ("cgroup.max.descendants", format!("{descendants}\n")),
            ("cgroup.max.depth", format!("{depth}\n")),
            (
                "cgroup.stat",
                format!("nr_descendants {has}\nnr_dying_descendants 9\n"),
            ),
        ] {
            fs::write(path.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_limit_that_is_met_is_found() {
        let root = std::env::temp_dir().join(format!("cgroup-limits-{}", std::process::id()));
        let inner = root.join("web");
        let wanted = inner.join("1-gen1");
        cgroup(&root, "max", "max", 4);
        cgroup(&inner, "max", "max", 1);
        assert_eq!(met(&wanted), None);
        cgroup(&root, "5", "2", 4);
        assert_eq!(met(&wanted), None);
        cgroup(&root, "4", "max", 4);
        let file = root.join("cgroup.max.descendants");
        assert_eq!(met(&wanted), Some(LimitMet { file, limit: 4 }));
        cgroup(&root, "max", "1", 4);
        let file = root.join("cgroup.max.depth");
        assert_eq!(met(&wanted), Some(LimitMet { file, limit: 1 }));
        cgroup(&inner, "max", "0", 4);
        let file = inner.join("cgroup.max.depth");
        assert_eq!(met(&wanted), Some(LimitMet { file, limit: 0 }));
        fs::remove_dir_all(&root).unwrap();
    }
}
