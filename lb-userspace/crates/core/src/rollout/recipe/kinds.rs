//! The kinds of programs whose end is known, and their names.
//!
//! docs/user/rollouts.md has the same table with the source of each line.

use nix::sys::signal::Signal::{self, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGWINCH};

use super::Effect::{self, Cuts, Finishes, Unknown};

/// A kind of programs.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The names of its programs, without versions.
    names: &'static [&'static str],
    /// The signals it is told to end by, and what they do; the first is the one that is sent.
    signals: &'static [(Signal, Effect)],
    /// The one that is sent while clients wait for its end, if that is another.
    alone: Option<Signal>,
    /// It saves what it has when it ends.
    saves: bool,
    /// It starts again what ends under it.
    restarts: bool,
}

const fn server(names: &'static [&'static str], signals: &'static [(Signal, Effect)]) -> Kind {
    Kind {
        names,
        signals,
        alone: None,
        saves: false,
        restarts: false,
    }
}

const fn store(names: &'static [&'static str], signals: &'static [(Signal, Effect)]) -> Kind {
    Kind {
        saves: true,
        ..server(names, signals)
    }
}

const fn supervisor(names: &'static [&'static str], signals: &'static [(Signal, Effect)]) -> Kind {
    Kind {
        restarts: true,
        ..server(names, signals)
    }
}

/// What uwsgi is known by that runs with that option.
pub(super) const DIES_ON_TERM: &str = "uwsgi --die-on-term";

static KINDS: &[Kind] = &[
    server(
        &["nginx", "openresty", "angie", "freenginx", "tengine"],
        &[(SIGQUIT, Finishes), (SIGTERM, Cuts), (SIGINT, Cuts)],
    ),
    server(
        &["haproxy"],
        &[(SIGUSR1, Finishes), (SIGTERM, Cuts), (SIGINT, Cuts)],
    ),
    server(
        &["apache2", "apache", "httpd"],
        &[(SIGWINCH, Finishes), (SIGTERM, Cuts)],
    ),
    server(&["lighttpd"], &[(SIGINT, Finishes), (SIGTERM, Cuts)]),
    server(&["caddy"], &[(SIGTERM, Finishes), (SIGQUIT, Cuts)]),
    // It finishes if process_control_timeout is set, which it is not usually.
    server(
        &["php-fpm"],
        &[(SIGQUIT, Unknown), (SIGTERM, Cuts), (SIGINT, Cuts)],
    ),
    server(
        &["unicorn"],
        &[(SIGQUIT, Finishes), (SIGTERM, Cuts), (SIGINT, Cuts)],
    ),
    server(
        &["gunicorn"],
        &[(SIGTERM, Finishes), (SIGINT, Cuts), (SIGQUIT, Cuts)],
    ),
    // SIGTERM is a reload for it, unless it runs with --die-on-term.
    server(
        &["uwsgi", "uwsgi-core"],
        &[(SIGQUIT, Cuts), (SIGINT, Cuts), (SIGTERM, Unknown)],
    ),
    // With that option SIGQUIT is its reload.
    server(
        &[DIES_ON_TERM],
        &[(SIGTERM, Cuts), (SIGINT, Cuts), (SIGQUIT, Unknown)],
    ),
    server(&["varnishd"], &[(SIGTERM, Cuts), (SIGINT, Cuts)]),
    server(
        &["stunnel"],
        &[(SIGTERM, Cuts), (SIGINT, Cuts), (SIGQUIT, Cuts)],
    ),
    server(&["memcached"], &[(SIGTERM, Cuts), (SIGINT, Cuts)]),
    server(&["iperf", "socat"], &[(SIGTERM, Cuts), (SIGINT, Cuts)]),
    server(&["pgbouncer"], &[(SIGINT, Finishes), (SIGQUIT, Cuts)]),
    // Sessions are processes of their own, which the signal does not reach.
    server(&["sshd"], &[(SIGTERM, Finishes)]),
    server(&["dovecot"], &[(SIGTERM, Cuts)]),
    // Data stores shut down in order, but at once: whoever is connected is cut.
    store(
        &["redis-server", "valkey-server"],
        &[(SIGTERM, Cuts), (SIGINT, Cuts)],
    ),
    store(&["etcd"], &[(SIGTERM, Cuts), (SIGINT, Cuts)]),
    store(&["mysqld", "mariadbd"], &[(SIGTERM, Cuts)]),
    store(&["mongod"], &[(SIGTERM, Cuts), (SIGINT, Cuts)]),
    store(&["mosquitto"], &[(SIGTERM, Cuts), (SIGINT, Cuts)]),
    // "Smart": no new sessions, the others may finish. "Fast": they are ended. Both end in a
    // checkpoint; "immediate" does not.
    Kind {
        alone: Some(SIGINT),
        ..store(
            &["postgres", "postmaster"],
            &[(SIGTERM, Finishes), (SIGINT, Cuts), (SIGQUIT, Cuts)],
        )
    },
    // These start again what ends under them, so they are told, and they tell.
    supervisor(
        &[
            "supervisord",
            "circusd",
            "pm2",
            "PM2",
            "pm2-runtime",
            "monit",
        ],
        &[(SIGTERM, Unknown)],
    ),
    supervisor(&["s6-supervise", "runsv"], &[(SIGTERM, Unknown)]),
    supervisor(&["runsvdir"], &[(SIGHUP, Unknown)]),
];

impl Kind {
    /// The kind of the program with this name.
    pub fn of(name: &str) -> Option<&'static Self> {
        let known = |name: &str| KINDS.iter().find(|kind| kind.names.contains(&name));
        let mut name = name;
        loop {
            if let Some(kind) = known(name) {
                return Some(kind);
            }
            name = shorter(name)?;
        }
    }

    /// The signal that is sent; `alone`: while clients wait for its end.
    pub(super) fn signal(&self, alone: bool) -> Signal {
        let first = self.signals.first().map(|&(signal, _)| signal);
        self.alone.filter(|_| alone).or(first).unwrap_or(SIGTERM)
    }

    /// What `signal` does, if that is known.
    pub(super) fn effect(&self, signal: Signal) -> Option<Effect> {
        let mut signals = self.signals.iter();
        signals
            .find(|&&(known, _)| known == signal)
            .map(|&(_, effect)| effect)
    }

    /// Whether it saves what it has when it ends.
    pub fn saves(&self) -> bool {
        self.saves
    }

    /// Whether it starts again what ends under it.
    pub fn restarts(&self) -> bool {
        self.restarts
    }
}

/// What packagers and builders put behind a name.
const SUFFIXES: [&str; 7] = [
    "-debug", "-dbg", "_rails", ".worker", ".event", "-bin", ".bin",
];

/// The name without its last suffix, or without its version: `php-fpm8.2`, `nginx-debug`,
/// `unicorn_rails`, `postgres-15`.
pub(super) fn shorter(name: &str) -> Option<&str> {
    let suffixed = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
    let versioned = || {
        let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let bare = bare.strip_suffix(['-', '_']).unwrap_or(bare);
        Some(bare).filter(|bare| bare.len() < name.len())
    };
    suffixed.or_else(versioned).filter(|bare| !bare.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_suffixes_are_no_part_of_a_name() {
        let same = |name: &str, kind: &str| {
            assert_eq!(Kind::of(name), Kind::of(kind), "{name}");
            assert!(Kind::of(kind).is_some(), "{kind}");
        };
        same("php-fpm8.2", "php-fpm");
        same("php-fpm83", "php-fpm");
        same("nginx-debug", "nginx");
        same("angie-debug", "nginx");
        same("unicorn_rails", "unicorn");
        same("apache2", "httpd");
        same("httpd.worker", "httpd");
        same("postgres-15", "postgres");
        same("iperf3", "iperf");
        same("mysqld-8.0-debug", "mariadbd");
        same("uwsgi-core", "uwsgi");
        for unknown in ["nginx-exporter", "my-nginx", "server", "8", "", "http2"] {
            assert_eq!(Kind::of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_kind_has_a_signal_of_its_own() {
        for kind in KINDS {
            assert!(kind.effect(kind.signal(false)).is_some(), "{kind:?}");
            assert!(kind.effect(kind.signal(true)).is_some(), "{kind:?}");
        }
    }
}
