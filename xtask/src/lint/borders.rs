//! The borders between the parts of the project that Cargo and rustc do not keep: a table. (Which crate may name which
//! is in the manifests, and all crates of user space but `hotlb-sys` forbid unsafe code.)

/// Something that only a few files may name.
pub(super) struct Border {
    /// Said of a path that is named where it may not be.
    pub(super) message: &'static str,
    /// Where the border holds: beginnings of file names.
    holds_in: &'static [&'static str],
    /// What is exempt from it: beginnings of file names.
    except: &'static [&'static str],
    /// Whether the code of unit tests is exempt too.
    pub(super) except_unit_tests: bool,
    /// What may not be named.
    pub(super) closed: Closed,
}

/// Kinds of paths.
#[derive(Debug, Clone, Copy)]
pub(super) enum Closed {
    /// A word by itself.
    Word(&'static str),
    /// Paths that begin so.
    Begins(&'static [&'static [&'static str]]),
    /// Paths that end so.
    Ends(&'static [&'static [&'static str]]),
}

/// All borders.
pub(super) const BORDERS: [Border; 4] = [
    Border {
        message: "only hotlb-sys and lb-ebpf hold unsafe code",
        holds_in: &["tests/", "xtask/"],
        except: &[],
        except_unit_tests: false,
        closed: Closed::Word("unsafe"),
    },
    Border {
        message: "only clock reads time",
        holds_in: &["lb-common/", "lb-userspace/"],
        except: &["lb-userspace/crates/sys/src/clock.rs"],
        except_unit_tests: true,
        closed: Closed::Ends(&[&["Instant", "now"], &["SystemTime", "now"]]),
    },
    Border {
        message: "rollout decides: no IO, no time",
        holds_in: &["lb-userspace/crates/core/src/rollout/"],
        except: &[],
        except_unit_tests: true,
        closed: Closed::Begins(&[
            &["std", "fs"],
            &["std", "io"],
            &["std", "net"],
            &["std", "process"],
            &["std", "thread"],
            &["std", "time", "Instant"],
            &["std", "time", "SystemTime"],
        ]),
    },
    Border {
        message: "all integration tests are in one process: what changes it is for a child, see tests/src/alone.rs",
        holds_in: &["tests/src/", "tests/tests/"],
        except: &[
            "tests/src/bin/",
            // These start a thread and change that.
            "tests/src/heartbeat.rs",
            "tests/src/mounts.rs",
            "tests/src/netns.rs",
        ],
        except_unit_tests: false,
        closed: Closed::Ends(&[
            &["chroot"],
            &["dup2"],
            &["sched_setaffinity"],
            &["set_child_subreaper"],
            &["set_current_dir"],
            &["set_hook"],
            &["setgid"],
            &["setns"],
            &["setpriority"],
            &["setrlimit"],
            &["setsid"],
            &["setuid"],
            &["sigaction"],
            &["sigprocmask"],
            &["umask"],
            &["unshare"],
        ]),
    },
];

impl Border {
    /// Whether it holds in `file`.
    pub(super) fn holds_in(&self, file: &str) -> bool {
        let begins = |beginnings: &[&str]| beginnings.iter().any(|start| file.starts_with(start));
        begins(self.holds_in) && !begins(self.except)
    }
}
