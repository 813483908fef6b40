//! What the tests run: servers to be upgraded, and the tools to give each test its own network.

use super::{apt::Apt, outcome::Line};
use crate::search_path;

/// A program that is installed if it is not there.
pub(super) struct Program {
    pub(super) name: &'static str,
    /// The Debian package it is in; none if it is not to be installed.
    pub(super) package: Option<&'static str>,
    /// Whether no test runs without it.
    pub(super) needed: bool,
    /// What does not work without it.
    pub(super) cost: &'static str,
}

/// What the tests run.
pub(super) const PROGRAMS: [Program; 18] = [
    Program {
        name: "nginx",
        package: Some("nginx-light"),
        needed: false,
        cost: "the tests with nginx are skipped",
    },
    Program {
        name: "haproxy",
        package: Some("haproxy"),
        needed: false,
        cost: "the tests with haproxy are skipped, and nothing is measured beside it",
    },
    Program {
        name: "python3",
        package: Some("python3-minimal"),
        needed: false,
        cost: "the tests with python's http.server are skipped",
    },
    Program {
        name: "node",
        package: None,
        needed: false,
        cost: "the tests with node are skipped",
    },
    Program {
        name: "javac",
        package: None,
        needed: false,
        cost: "the test with a server in Java is skipped",
    },
    Program {
        name: "nft",
        package: Some("nftables"),
        needed: false,
        cost: "polite drain is not shown while packets are lost",
    },
    Program {
        name: "wrk",
        package: Some("wrk"),
        needed: false,
        cost: "polite drain is not shown under kept connections",
    },
    Program {
        name: "etcd",
        package: Some("etcd-server"),
        needed: false,
        cost: "the tests of a server that cannot run twice are skipped",
    },
    Program {
        name: "redis-server",
        package: Some("redis-server"),
        needed: false,
        cost: "the test of long-lived connections is skipped",
    },
    Program {
        name: "dnsmasq",
        package: Some("dnsmasq-base"),
        needed: false,
        cost: "the test of a resolver that looks at devices is skipped",
    },
    Program {
        name: "unbound",
        package: Some("unbound"),
        needed: false,
        cost: "the test of a resolver on interfaces is skipped",
    },
    Program {
        name: "prometheus",
        package: Some("prometheus"),
        needed: false,
        cost: "no real Prometheus scrapes the agent, and promtool checks neither metrics nor alert rules",
    },
    Program {
        name: "busybox",
        package: Some("busybox-static"),
        needed: false,
        cost: "profiles of a stripped static server are not tested",
    },
    Program {
        name: "go",
        package: Some("golang-go"),
        needed: false,
        cost: "it is not tested that `go tool pprof` reads a profile",
    },
    Program {
        name: "perf",
        package: Some("linux-perf"),
        needed: false,
        cost: "profiles are not measured beside perf",
    },
    Program {
        name: "ip",
        package: Some("iproute2"),
        needed: true,
        cost: "no test can have a network of its own",
    },
    Program {
        name: "nsenter",
        package: Some("util-linux"),
        needed: true,
        cost: "no test can run a program in its own network",
    },
    Program {
        name: "ps",
        package: Some("procps"),
        needed: false,
        cost: "a test that fails cannot show the processes it leaves",
    },
];

/// Finds or installs all of them.
pub(super) fn provide(programs: &[Program], apt: &mut Apt) -> Vec<Line> {
    let absent = |program: &&Program| search_path::find(program.name).is_none();
    let absent: Vec<_> = programs.iter().filter(absent).collect();
    let packages: Vec<_> = absent
        .iter()
        .filter_map(|program| program.package)
        .collect();
    let trouble = if packages.is_empty() {
        None
    } else {
        apt.install(&packages).err()
    };
    let trouble = trouble.map(|error| format!("{error:#}"));
    let line = |program: &Program| {
        let is_new = absent.iter().any(|other| other.name == program.name);
        program.line(is_new, trouble.as_deref())
    };
    programs.iter().map(line).collect()
}

impl Program {
    fn line(&self, is_new: bool, trouble: Option<&str>) -> Line {
        let why = match self.package {
            None => "not there, and not installed by setup",
            Some(_) => trouble.unwrap_or("its package does not have it"),
        };
        match search_path::find(self.name) {
            Some(path) if is_new => Line::installed(self.name, path.display().to_string()),
            Some(path) => Line::found(self.name, path.display().to_string()),
            None => Line::missing(self.name, why, self.cost).needed(self.needed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: Program = Program {
        name: "no-such-program",
        package: None,
        needed: true,
        cost: "nothing works",
    };

    #[test]
    fn what_is_there_is_found_with_its_place() {
        let shell = Program {
            name: "sh",
            ..ABSENT
        };
        assert!(
            shell
                .line(false, None)
                .to_string()
                .starts_with("found sh: /")
        );
    }

    #[test]
    fn what_cannot_be_installed_says_why() {
        let packaged = Program {
            package: Some("x"),
            ..ABSENT
        };
        assert!(
            packaged
                .line(true, Some("no network"))
                .to_string()
                .contains("no network")
        );
        assert!(
            ABSENT
                .line(true, None)
                .to_string()
                .contains("not installed by setup")
        );
        assert_eq!(
            ABSENT.line(true, None).into_lacking().as_deref(),
            Some("no-such-program")
        );
    }
}
