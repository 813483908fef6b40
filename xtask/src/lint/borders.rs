//! The borders between the parts of the project: a table.

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
    /// Anything of these crates.
    Crates(&'static [&'static str]),
    /// Paths that begin so.
    Begins(&'static [&'static [&'static str]]),
    /// Paths that end so.
    Ends(&'static [&'static [&'static str]]),
    /// Anything in these top modules of the file's own crate.
    Modules(&'static [&'static str]),
}

const AGENT: &str = "lb-userspace/src/";

/// All borders.
pub(super) const BORDERS: [Border; 8] = [
    Border {
        message: "only datapath names aya",
        holds_in: &["lb-common/", "lb-userspace/", "tests/"],
        except: &["lb-userspace/src/datapath/"],
        except_unit_tests: false,
        closed: Closed::Crates(&["aya", "aya_log", "aya_obj"]),
    },
    Border {
        message: "only sys and lb-ebpf hold unsafe code",
        holds_in: &["lb-common/", "lb-userspace/", "tests/", "xtask/"],
        except: &["lb-userspace/src/sys/"],
        except_unit_tests: false,
        closed: Closed::Word("unsafe"),
    },
    Border {
        message: "only clock reads time",
        holds_in: &["lb-common/", AGENT],
        except: &["lb-userspace/src/clock.rs"],
        except_unit_tests: true,
        closed: Closed::Ends(&[&["Instant", "now"], &["SystemTime", "now"]]),
    },
    Border {
        message: "rollout decides: no IO, no time, no logging",
        holds_in: &["lb-userspace/src/rollout/"],
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
        message: "rollout decides: no runtime, no logging",
        holds_in: &["lb-userspace/src/rollout/"],
        except: &[],
        except_unit_tests: true,
        closed: Closed::Crates(&["tokio", "tracing", "log", "rustix"]),
    },
    Border {
        message: "cli knows api only",
        holds_in: &["lb-userspace/src/cli/", "lb-userspace/src/cli.rs"],
        except: &[],
        except_unit_tests: false,
        closed: Closed::Modules(&["agent", "datapath", "generation"]),
    },
    Border {
        message: "anyhow is for main.rs, xtask and tests; here an error is an enum",
        holds_in: &["lb-common/", AGENT],
        except: &["lb-userspace/src/main.rs"],
        except_unit_tests: true,
        closed: Closed::Crates(&["anyhow"]),
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
