//! Which signal has a server finish what it is doing, by the name of its program.
//!
//! From each server's own documentation. For most it is SIGTERM; for these SIGTERM cuts answers
//! short, or they name another one.

use nix::sys::signal::Signal;

/// How a server is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The signal.
    pub signal: Signal,
    /// Whether connections it has may finish after the signal. Otherwise they are cut by it, and
    /// it has to wait for them.
    pub finishes: bool,
}

const fn finishes(signal: Signal) -> Recipe {
    Recipe {
        signal,
        finishes: true,
    }
}

const fn cuts(signal: Signal) -> Recipe {
    Recipe {
        signal,
        finishes: false,
    }
}

const RECIPES: [(&str, Recipe); 15] = [
    ("nginx", finishes(Signal::SIGQUIT)),
    ("haproxy", finishes(Signal::SIGUSR1)),
    ("apache2", finishes(Signal::SIGWINCH)),
    ("httpd", finishes(Signal::SIGWINCH)),
    ("php-fpm", finishes(Signal::SIGQUIT)),
    ("unicorn", finishes(Signal::SIGQUIT)),
    ("gunicorn", finishes(Signal::SIGTERM)),
    // Data stores shut down orderly, but at once: whoever is connected is cut.
    ("redis-server", cuts(Signal::SIGTERM)),
    ("valkey-server", cuts(Signal::SIGTERM)),
    ("memcached", cuts(Signal::SIGTERM)),
    ("etcd", cuts(Signal::SIGTERM)),
    // "Smart shutdown": no new sessions, the others may finish.
    ("postgres", finishes(Signal::SIGTERM)),
    ("mysqld", cuts(Signal::SIGTERM)),
    ("mariadbd", cuts(Signal::SIGTERM)),
    ("mongod", cuts(Signal::SIGTERM)),
];

/// How `program`, a path or a bare name, is told to end, if its kind is known.
pub fn known(program: &str) -> Option<Recipe> {
    let name = program.rsplit('/').next().unwrap_or(program);
    RECIPES
        .iter()
        .find(|(known, _)| name == *known)
        .map(|&(_, recipe)| recipe)
}

/// How a program is told to end: by `configured`, else as its kind wants it, else by SIGTERM.
/// Whether it finishes then is known of its kind; else a program that catches the signal is
/// taken to, and one that does not dies of it.
pub fn ending(
    program: &str,
    configured: Option<Signal>,
    catches: impl Fn(Signal) -> bool,
) -> Recipe {
    let known = known(program);
    let signal = configured
        .or(known.map(|r| r.signal))
        .unwrap_or(Signal::SIGTERM);
    match known {
        Some(recipe) if recipe.signal == signal => recipe,
        _ => Recipe {
            signal,
            finishes: catches(signal),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_by_the_name_of_the_program() {
        let signal = |program| ending(program, None, |_| true).signal;
        assert_eq!(signal("/usr/sbin/nginx"), Signal::SIGQUIT);
        assert_eq!(signal("haproxy"), Signal::SIGUSR1);
        assert_eq!(signal("/opt/nginx/bin/server"), Signal::SIGTERM);
        assert!(!ending("redis-server", None, |_| true).finishes);
    }

    #[test]
    fn a_signal_nobody_catches_cuts() {
        let recipe = |catches: bool| ending("./server", None, move |_| catches);
        assert!(recipe(true).finishes);
        assert!(!recipe(false).finishes);
        let other = ending("redis-server", Some(Signal::SIGUSR2), |_| true);
        assert!(other.finishes && other.signal == Signal::SIGUSR2);
    }
}
