//! The kernel: its version, what it says about its own types, its lockdown.

use std::{fs, path::Path};

use procfs::sys::kernel::Version;

use super::finding::{Check, Finding};
use crate::{datapath::features::Support, sys::sysctl};

/// What is to be known of the kernel.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// As `uname -r` prints it.
    release: String,
    /// Major and minor; `None` if the release is not understood.
    version: Option<(u8, u8)>,
    btf: bool,
    /// The lockdown file's text; `None` if there is no such thing here.
    lockdown: Option<String>,
}

const BTF: &str = "/sys/kernel/btf/vmlinux";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// What hotlb's programs use that kernels have not had for ever.
const SINCE: [((u8, u8), &str); 3] = [
    ((5, 8), "ring buffers (5.8)"),
    ((5, 12), "atomic additions that return (5.12)"),
    (
        (5, 14),
        "the choice again for a connection whose listener closed (5.14)",
    ),
];

impl Kernel {
    /// Looks.
    pub(super) fn gather() -> Self {
        Self {
            release: sysctl::text("kernel.osrelease").unwrap_or_default(),
            version: Version::current()
                .ok()
                .map(|version| (version.major, version.minor)),
            btf: Path::new(BTF).exists(),
            lockdown: fs::read_to_string(LOCKDOWN).ok(),
        }
    }

    /// Whether it is this version or a later one.
    pub(super) fn is_at_least(&self, version: (u8, u8)) -> bool {
        self.version.is_some_and(|own| own >= version)
    }
}

/// The verdicts. `steer` is how the program that needs the newest kernel fared: a distribution's
/// kernel can do more than its number says.
pub(super) fn check(kernel: &Kernel, steer: Option<&Support>) -> Vec<Finding> {
    vec![version(kernel, steer), btf(kernel), lockdown(kernel)]
}

fn version(kernel: &Kernel, steer: Option<&Support>) -> Finding {
    let check = Check::needed("kernel", "/proc/sys/kernel/osrelease");
    let lacks: Vec<&str> = SINCE
        .iter()
        .filter(|(since, _)| !kernel.is_at_least(*since))
        .map(|(_, what)| *what)
        .collect();
    let found = kernel.release.clone();
    if lacks.is_empty() {
        return check.ok(found);
    }
    let advice = "use Linux 5.14 or later";
    if steer == Some(&Support::Yes) {
        let cost = "hotlb's programs load anyway, but are not tested on such a kernel";
        return check.degraded(found, cost, advice);
    }
    let cost = format!("the programs do not load; no {}", lacks.join(", no "));
    check.missing(found, &cost, advice)
}

fn btf(kernel: &Kernel) -> Finding {
    let check = Check::optional("btf", BTF);
    if kernel.btf {
        return check.ok("the kernel describes its types");
    }
    check.degraded(
        "not there",
        "nothing for steering and counting, whose programs read no kernel types; clients are not \
         asked to leave a draining generation, and programs that measure inside the kernel do not \
         load",
        "use a kernel built with CONFIG_DEBUG_INFO_BTF",
    )
}

fn lockdown(kernel: &Kernel) -> Finding {
    let check = Check::optional("lockdown", LOCKDOWN);
    let Some(text) = &kernel.lockdown else {
        return check.ok("none");
    };
    let chosen = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    match chosen {
        Some("confidentiality") => {
            check.ok("confidentiality (hotlb's programs read no arbitrary kernel memory)")
        }
        Some(other) => check.ok(other),
        None => check.ok(text.trim()),
    }
}

#[cfg(test)]
impl Kernel {
    pub(super) fn of_version(version: (u8, u8)) -> Self {
        Self {
            release: format!("{}.{}.0-test", version.0, version.1),
            version: Some(version),
            btf: true,
            lockdown: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    fn kernel(version: (u8, u8), steer: Option<&Support>) -> Finding {
        super::version(&Kernel::of_version(version), steer)
    }

    #[test]
    fn five_fourteen_is_the_first() {
        assert_eq!(kernel((5, 14), None).verdict, Verdict::Ok);
        assert_eq!(kernel((6, 1), None).verdict, Verdict::Ok);
        assert_eq!(kernel((5, 13), None).verdict, Verdict::Missing);
        assert_eq!(
            kernel((4, 18), Some(&Support::No)).verdict,
            Verdict::Missing
        );
    }

    #[test]
    fn a_backport_counts() {
        assert_eq!(
            kernel((4, 18), Some(&Support::Yes)).verdict,
            Verdict::Degraded
        );
    }

    #[test]
    fn the_cost_names_what_is_lost() {
        let cost = |version| kernel(version, None).cost.unwrap();
        assert!(cost((5, 10)).contains("5.14") && cost((5, 10)).contains("5.12"));
        assert!(!cost((5, 10)).contains("5.8") && cost((5, 4)).contains("5.8"));
    }

    #[test]
    fn lockdown_is_named() {
        let named = |text: &str| {
            let kernel = Kernel {
                lockdown: Some(text.to_owned()),
                ..Kernel::of_version((6, 1))
            };
            lockdown(&kernel).found
        };
        assert_eq!(named("none [integrity] confidentiality\n"), "integrity");
        assert!(named("none integrity [confidentiality]\n").starts_with("confidentiality"));
        assert_eq!(named("odd\n"), "odd");
    }

    #[test]
    fn no_btf_costs_no_connection() {
        let kernel = Kernel {
            btf: false,
            ..Kernel::of_version((6, 1))
        };
        assert_eq!(btf(&kernel).verdict, Verdict::Degraded);
    }
}
