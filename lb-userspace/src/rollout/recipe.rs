//! Which signal has a server finish what it is doing, by the name of its program.
//!
//! From each server's own documentation. For most it is SIGTERM; for these SIGTERM cuts answers
//! short, or they name another one.

use nix::sys::signal::Signal;

const RECIPES: [(&str, Signal); 6] = [
    ("nginx", Signal::SIGQUIT),
    ("haproxy", Signal::SIGUSR1),
    ("apache2", Signal::SIGWINCH),
    ("httpd", Signal::SIGWINCH),
    ("php-fpm", Signal::SIGQUIT),
    ("unicorn", Signal::SIGQUIT),
];

/// The signal for `program`, a path or a bare name.
pub fn graceful_signal(program: &str) -> Signal {
    let name = program.rsplit('/').next().unwrap_or(program);
    RECIPES
        .iter()
        .find(|(known, _)| name == *known)
        .map_or(Signal::SIGTERM, |&(_, signal)| signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_by_the_name_of_the_program() {
        assert_eq!(graceful_signal("/usr/sbin/nginx"), Signal::SIGQUIT);
        assert_eq!(graceful_signal("haproxy"), Signal::SIGUSR1);
        assert_eq!(graceful_signal("/opt/nginx/bin/server"), Signal::SIGTERM);
    }
}
