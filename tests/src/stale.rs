//! Removes what a test process left behind that was killed before it could clean up.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{cgroups, netns, report, units};

/// Removes namespaces, cgroups and pin directories of tests whose process is gone. Before each test, as another one may
/// have had a process of its own that was killed.
pub fn sweep() {
    for name in orphans(Path::new("/run/netns")) {
        note(&name, netns::remove(&name));
    }
    let Ok(mount) = cgroups::mount() else { return };
    for name in orphans(&mount) {
        note(&name, cgroups::end(&mount.join(&name)));
    }
    let bpffs = PathBuf::from("/sys/fs/bpf");
    for name in orphans(&bpffs) {
        note(
            &name,
            fs::remove_dir_all(bpffs.join(&name)).map_err(Into::into),
        );
    }
}

/// Entries of `directory` named after a test process that does not run any more.
fn orphans(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| owner(name).is_some_and(|pid| !Path::new("/proc").join(pid).exists()))
        .collect()
}

/// The pid in `hotlb-test-PID-NUMBER`, with or without the ending of a test's units.
fn owner(name: &str) -> Option<&str> {
    let name = name.strip_suffix(units::ENDING).unwrap_or(name);
    let (pid, number) = name.strip_prefix(netns::PREFIX)?.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(pid) && digits(number)).then_some(pid)
}

fn note(name: &str, result: anyhow::Result<()>) {
    match result {
        Ok(()) => report::remark(format!("removed what an earlier run left: {name}")),
        Err(error) => report::remark(format!("cannot remove {name} of an earlier run: {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_names_of_the_tests_have_an_owner() {
        assert_eq!(owner("hotlb-test-12-3"), Some("12"));
        assert_eq!(owner("hotlb-test-12-3.units"), Some("12"));
        assert_eq!(owner("hotlb-test-abcd"), None);
        assert_eq!(owner("hotlb-test-x-3"), None);
        assert_eq!(owner("hotlb-12-3"), None);
    }
}
