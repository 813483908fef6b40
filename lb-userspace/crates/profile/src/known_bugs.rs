//! Kernels on which other profilers stopped the host: nothing is sampled there unless it is forced.

use std::env::consts::ARCH;

use hotlb_sys::sysctl;

use super::{Measure, Unwind};

/// A part of sampling that a kernel may have a bug in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Copying the user's stack, or the kernel's call chain, in the interrupt of a perf event.
    Interrupt,
    /// Following frame pointers in user memory, in the same interrupt.
    FramePointers,
    /// Copying the user's stack in the interrupt.
    StackCopy,
}

/// A bug that was seen.
#[derive(Debug)]
struct Bug {
    /// The first version that has it.
    from: (u32, u32),
    /// The first version that does not.
    below: (u32, u32),
    /// The only architecture that has it.
    arch: Option<&'static str>,
    /// What is in the release's name of the only kernels that have it.
    release: Option<&'static str>,
    part: Part,
    /// What was seen.
    what: &'static str,
    /// Who saw it.
    source: &'static str,
    /// What to do instead.
    instead: &'static str,
}

const BUGS: [Bug; 3] = [
    Bug {
        from: (5, 19),
        below: (6, 1),
        arch: None,
        release: None,
        part: Part::StackCopy,
        what: "reading user memory in the interrupt of a perf event can lock the whole host up \
               (hardened usercopy takes a lock that the interrupted code may hold)",
        source: "parca-dev/parca-agent#1675, #2070; Debian bug 1033398",
        instead: "--unwind fp, or kernel 6.1 or later with its stable updates",
    },
    Bug {
        from: (6, 11),
        below: (6, 14),
        arch: Some("x86_64"),
        release: None,
        part: Part::FramePointers,
        what: "following a user's frame pointers in the interrupt of a perf event can end in an oops \
               (perf_callchain_user)",
        source: "coroot/coroot-node-agent#275, seen on 6.11, not on 6.14",
        instead: "--unwind auto or dwarf",
    },
    Bug {
        from: (6, 1),
        below: (6, 18),
        arch: Some("aarch64"),
        release: Some("amzn2023"),
        part: Part::Interrupt,
        what: "the kernel's own call chain, taken in the interrupt of a perf event, can end in an \
               oops (arch_stack_walk)",
        source: "parca-dev/parca-agent#3112, on Amazon Linux 2023; the release that fixed it is \
                 unknown",
        instead: "--off-cpu, which needs no interrupt, or another kernel",
    },
];

impl Part {
    fn is_used(self, measure: Measure, unwind: Unwind) -> bool {
        measure == Measure::Cpu
            && match self {
                Self::Interrupt => true,
                Self::FramePointers => unwind == Unwind::Fp,
                Self::StackCopy => unwind != Unwind::Fp,
            }
    }
}

/// Why sampling in this way could stop a host with kernel `release` on `arch`.
fn known(release: &str, arch: &str, measure: Measure, unwind: Unwind) -> Option<String> {
    let bug = find(release, arch, |part| part.is_used(measure, unwind))?;
    Some(format!(
        "kernel {release} may have a bug that stops the host: {} ({}); use {}",
        bug.what, bug.source, bug.instead
    ))
}

fn find(release: &str, arch: &str, is_used: impl Fn(Part) -> bool) -> Option<&'static Bug> {
    let version = version(release)?;
    BUGS.iter().find(|bug| {
        (bug.from..bug.below).contains(&version)
            && bug.arch.is_none_or(|only| only == arch)
            && bug.release.is_none_or(|only| release.contains(only))
            && is_used(bug.part)
    })
}

/// Why a program on kernel `release` must not read the user's stack.
fn known_of_reading(release: &str, arch: &str) -> Option<String> {
    // A program reads by the same function as copies the stack.
    let bug = find(release, arch, |part| part == Part::StackCopy)?;
    Some(format!("on kernel {release} {} ({})", bug.what, bug.source))
}

/// Why a program at the event must not follow frame pointers itself on this host, if a bug of its
/// kernel is known.
pub fn against_reading() -> Option<String> {
    known_of_reading(&sysctl::text("kernel.osrelease")?, ARCH)
}

/// Why sampling in this way could stop this host, if a bug of its kernel is known.
pub fn on_this_host(measure: Measure, unwind: Unwind) -> Option<String> {
    let release = sysctl::text("kernel.osrelease")?;
    known(&release, ARCH, measure, unwind)
}

/// Major and minor version of a release such as "6.1.0-18-amd64".
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(release: &str, arch: &str, unwind: Unwind) -> bool {
        known(release, arch, Measure::Cpu, unwind).is_some()
    }

    #[test]
    fn versions_are_read_from_the_releases_of_distributions() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.19-rc3"), Some((5, 19)));
        assert_eq!(version("5.19"), Some((5, 19)));
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("Linux"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn a_stack_is_not_copied_from_5_19_to_6_0() {
        for (release, denied) in [
            ("5.18.19", false),
            ("5.19.0-50-generic", true),
            ("6.0.19", true),
            ("6.1.0-18-amd64", false),
        ] {
            assert_eq!(cpu(release, "x86_64", Unwind::Auto), denied, "{release}");
            assert_eq!(cpu(release, "aarch64", Unwind::Dwarf), denied, "{release}");
            assert!(!cpu(release, "x86_64", Unwind::Fp), "{release}");
        }
    }

    #[test]
    fn a_program_reads_no_stack_where_the_kernel_must_not_copy_one() {
        assert!(known_of_reading("6.0.19", "x86_64").is_some());
        assert!(known_of_reading("6.1.0-18-amd64", "x86_64").is_none());
        assert!(known_of_reading("6.11.0-19-generic", "x86_64").is_none());
    }

    #[test]
    fn frame_pointers_are_not_followed_from_6_11_to_6_13() {
        assert!(cpu("6.11.0-19-generic", "x86_64", Unwind::Fp));
        assert!(!cpu("6.11.0-19-generic", "x86_64", Unwind::Auto));
        assert!(!cpu("6.11.0-19-generic", "aarch64", Unwind::Fp));
        assert!(!cpu("6.14.0-37-generic", "x86_64", Unwind::Fp));
    }

    #[test]
    fn amazon_on_arm_is_only_looked_at_from_outside() {
        let release = "6.12.40-63.114.amzn2023.aarch64";
        assert!(cpu(release, "aarch64", Unwind::Fp));
        assert!(!cpu("6.12.40", "aarch64", Unwind::Auto));
        assert!(known(release, "aarch64", Measure::Waiting, Unwind::Auto).is_none());
    }

    #[test]
    fn it_says_what_to_do_and_who_says_so() {
        let text = known("6.0.19", "x86_64", Measure::Cpu, Unwind::Auto).unwrap();
        assert!(text.contains("6.0.19") && text.contains("#2070") && text.contains("--unwind fp"));
        assert!(on_this_host(Measure::Waiting, Unwind::Auto).is_none());
    }
}
