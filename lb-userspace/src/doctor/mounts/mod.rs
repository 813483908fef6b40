//! cgroup2 and bpffs: where they are, or whether the agent could mount them.

mod bpffs;
mod cgroup2;

use super::{
    finding::{Check, Finding},
    kernel::Kernel,
    rights::Rights,
};
use crate::{config::Places, sys::netns};
use bpffs::Bpffs;
use cgroup2::Cgroup2;

/// What is mounted.
#[derive(Clone, Debug)]
pub(super) struct Mounts {
    /// The namespace's name below `ip netns exec`.
    ip_netns: Option<String>,
    cgroup2: Option<Cgroup2>,
    bpffs: Bpffs,
}

impl Mounts {
    /// Looks.
    pub(super) fn gather(places: &Places) -> Self {
        Self {
            ip_netns: netns::entered_by_ip(),
            cgroup2: Cgroup2::gather(places),
            bpffs: Bpffs::gather(&places.bpffs),
        }
    }
}

/// The verdicts.
pub(super) fn check(mounts: &Mounts, kernel: &Kernel, rights: &Rights) -> Vec<Finding> {
    let ip_netns = mounts.ip_netns.as_deref();
    let mut findings = vec![namespace(ip_netns)];
    findings.extend(cgroup2::check(
        mounts.cgroup2.as_ref(),
        ip_netns,
        kernel,
        rights,
    ));
    findings.push(bpffs::check(&mounts.bpffs, ip_netns, rights));
    findings
}

fn namespace(ip_netns: Option<&str>) -> Finding {
    let check = Check::optional("network namespace", "/proc/self/mountinfo");
    match ip_netns {
        None => check.ok("/sys is the host's"),
        Some(name) => check.degraded(
            format!("entered by `ip netns exec {name}`"),
            "that command puts a fresh /sys over the host's: cgroup2 and bpffs are hidden",
            &nsenter(name),
        ),
    }
}

/// The way in that leaves /sys as it is.
fn nsenter(name: &str) -> String {
    format!("enter it by `nsenter --net=/run/netns/{name} hotlb …`, which hides nothing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::reach::Access;

    #[test]
    fn below_ip_netns_exec_the_way_out_is_said() {
        let mounts = Mounts {
            ip_netns: Some("blue".to_owned()),
            cgroup2: None,
            bpffs: Bpffs::on("/sys/fs", false, Access::Writable),
        };
        let found = check(&mounts, &Kernel::of_version((6, 1)), &Rights::all());
        let said = |finding: &Finding| {
            let advice = finding.advice.as_deref().unwrap_or_default();
            advice.contains("nsenter --net=/run/netns/blue")
        };
        assert_eq!(found.iter().filter(|&finding| said(finding)).count(), 2);
        assert_eq!(found.len(), 3);
    }
}
