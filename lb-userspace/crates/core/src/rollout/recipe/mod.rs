//! Which signal a server is told to end by, and what that does to its connections.
//!
//! A program that catches a signal need not finish what it is doing: the runtimes of Go, node, Java
//! and Ruby catch SIGTERM and end at once. So what is not known of a program is unknown, until it
//! was seen.

mod kinds;
mod program;

use std::time::Duration;

use nix::sys::signal::Signal;

pub use kinds::Kind;
pub use program::Program;

use super::habit::{Habit, Seen};

/// What a signal does to the connections of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They may finish.
    Finishes,
    /// They are cut.
    Cuts,
    /// The one or the other.
    Unknown,
}

impl Effect {
    /// Its name in `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finishes => "finishes",
            Self::Cuts => "cuts",
            Self::Unknown => "unknown",
        }
    }
}

/// Where a signal comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `drain.signal`.
    Configured,
    /// The systemd service of an adopted server.
    Unit,
    /// The kind of the program.
    Kind,
    /// What every program is told by.
    Usual,
}

/// By what an effect is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The kind of the program.
    Kind,
    /// It has no handler.
    NotCaught,
    /// It cut connections before, so long after the drain had begun.
    CutBefore(Duration),
    /// It finished before.
    FinishedBefore,
    /// The operator named the signal, and the program catches it.
    Trusted,
    /// It catches the signal, which says little.
    Caught,
}

/// What is known of a server when it is to be told to end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// Its program.
    pub program: Option<&'a Program>,
    /// `drain.signal`.
    pub configured: Option<Signal>,
    /// What its systemd service is stopped by.
    pub unit: Option<Signal>,
    /// Nobody else serves: clients wait until it has ended.
    pub alone: bool,
}

/// How a server is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The signal.
    pub signal: Signal,
    /// Where it comes from.
    pub source: Source,
    /// What it does.
    pub effect: Effect,
    /// By what that is judged.
    pub ground: Ground,
    /// Whether the server has a handler for it.
    pub caught: bool,
    /// Whether the program saves what it has when it ends, which takes its time.
    pub saves: bool,
}

/// How a server is told to end: by the signal that is configured, else by that of its unit, else as
/// its kind wants it, else by SIGTERM. `catches` and `habit` say what is known of a signal.
pub fn recipe(
    facts: Facts<'_>,
    catches: impl FnOnce(Signal) -> bool,
    habit: impl FnOnce(Signal) -> Option<Habit>,
) -> Recipe {
    let kind = facts.program.and_then(|program| Kind::of(&program.name));
    let of_kind = kind.map(|kind| kind.signal(facts.alone));
    let cuts = |signal| kind.and_then(|kind| kind.effect(signal)) == Some(Effect::Cuts);
    let (signal, source) = match (facts.configured, facts.unit, of_kind) {
        (Some(signal), _, _) => (signal, Source::Configured),
        (None, Some(signal), _) if !cuts(signal) => (signal, Source::Unit),
        (None, _, Some(signal)) => (signal, Source::Kind),
        (None, Some(signal), None) => (signal, Source::Unit),
        (None, None, None) => (Signal::SIGTERM, Source::Usual),
    };
    let caught = catches(signal);
    let known = kind.and_then(|kind| kind.effect(signal));
    let (effect, ground) = match known.filter(|&effect| effect != Effect::Unknown) {
        Some(effect) => (effect, Ground::Kind),
        None if !caught => (Effect::Cuts, Ground::NotCaught),
        None => match habit(signal).map(|habit| habit.seen) {
            Some(Seen::Cuts { after, .. }) => (Effect::Cuts, Ground::CutBefore(after)),
            Some(Seen::Finishes) => (Effect::Finishes, Ground::FinishedBefore),
            // Not by what it is known for under another configuration.
            None if source == Source::Configured && known.is_none() => {
                (Effect::Finishes, Ground::Trusted)
            }
            None => (Effect::Unknown, Ground::Caught),
        },
    };
    Recipe {
        signal,
        source,
        effect,
        ground,
        caught,
        saves: kind.is_some_and(Kind::saves),
    }
}

impl Recipe {
    /// How long after the beginning of the drain the signal is sent although connections are left;
    /// `None`: not before the deadline. `configured` is a `signal_after` that the operator has set,
    /// `usual` the one there is otherwise.
    pub fn wait(&self, configured: Option<Duration>, usual: Duration) -> Option<Duration> {
        match (self.effect, self.ground) {
            (Effect::Finishes, _) => Some(configured.unwrap_or(usual)),
            (Effect::Unknown, _) => configured,
            // It has been set anew since.
            (Effect::Cuts, Ground::CutBefore(after)) => configured.filter(|&wait| wait > after),
            (Effect::Cuts, _) => None,
        }
    }

    /// Whether a server that is told at the deadline may still finish what it has: it has a handler,
    /// and nobody knows what that does, or it was seen to cut, once.
    pub const fn may_finish(&self) -> bool {
        self.caught
            && matches!(
                (self.effect, self.ground),
                (Effect::Unknown, _) | (Effect::Cuts, Ground::CutBefore(_))
            )
    }

    /// Whether what becomes of the connections is to be remembered: it is not known otherwise.
    pub fn is_to_be_seen(&self) -> bool {
        !matches!(self.ground, Ground::Kind | Ground::NotCaught)
    }

    /// Why this signal, and what it does, in words.
    pub fn why(&self, program: &str) -> String {
        let signal = self.signal;
        let chosen = match self.source {
            Source::Configured => "drain.signal; ",
            Source::Unit => "its systemd service is stopped with it; ",
            Source::Kind | Source::Usual => "",
        };
        let known = match (self.ground, self.effect) {
            (Ground::Kind, Effect::Finishes) => format!("{program} finishes its connections on it"),
            (Ground::Kind, Effect::Cuts | Effect::Unknown) => {
                format!("{program} cuts its connections on it")
            }
            (Ground::NotCaught, _) => format!("{program} does not catch it and is killed by it"),
            (Ground::CutBefore(_), _) => format!("{program} cut connections on it before"),
            (Ground::FinishedBefore, _) => format!("{program} was seen to finish on it"),
            (Ground::Trusted, _) => {
                format!("{program} catches it, so hotlb assumes that it finishes")
            }
            (Ground::Caught, _) => {
                format!("{program} catches it, but was not seen to finish on {signal}")
            }
        };
        format!("{chosen}{known}")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn program(name: &str) -> Program {
        let words = [name.to_owned()];
        Program::of(&Path::new("/usr/sbin").join(name), &words, Path::new("/"))
    }

    fn of(name: &str, configured: Option<Signal>, caught: bool) -> Recipe {
        let program = program(name);
        let facts = Facts {
            program: Some(&program),
            configured,
            ..Facts::default()
        };
        recipe(facts, |_| caught, |_| None)
    }

    const USUAL: Duration = Duration::from_secs(2);

    #[test]
    fn goes_by_the_kind_of_the_program() {
        assert_eq!(of("nginx", None, true).signal, Signal::SIGQUIT);
        assert_eq!(of("php-fpm8.2", None, true).signal, Signal::SIGQUIT);
        assert_eq!(of("lighttpd", None, true).signal, Signal::SIGINT);
        assert_eq!(of("server", None, true).signal, Signal::SIGTERM);
        assert_eq!(of("redis-server", None, true).effect, Effect::Cuts);
        assert_eq!(of("uwsgi", None, true).effect, Effect::Cuts);
        // SIGTERM is nginx's fast end.
        let configured = of("nginx", Some(Signal::SIGTERM), true);
        assert_eq!(
            (configured.effect, configured.ground),
            (Effect::Cuts, Ground::Kind)
        );
    }

    #[test]
    fn who_catches_a_signal_is_not_known_to_finish() {
        let unknown = of("node", None, true);
        assert_eq!(unknown.effect, Effect::Unknown);
        assert_eq!(unknown.wait(None, USUAL), None);
        let set = Duration::from_secs(7);
        assert_eq!(unknown.wait(Some(set), USUAL), Some(set));
        let dies = of("node", None, false);
        assert_eq!(dies.effect, Effect::Cuts);
        assert_eq!(dies.wait(Some(set), USUAL), None);
        let trusted = of("node", Some(Signal::SIGUSR2), true);
        assert_eq!(trusted.wait(None, USUAL), Some(USUAL));
        // It does or does not by its own configuration, whoever names the signal.
        assert_eq!(
            of("php-fpm", Some(Signal::SIGQUIT), true).effect,
            Effect::Unknown
        );
    }

    #[test]
    fn what_was_seen_is_what_is_known() {
        let seen = |seen| {
            let program = program("server");
            let facts = Facts {
                program: Some(&program),
                configured: Some(Signal::SIGTERM),
                ..Facts::default()
            };
            recipe(facts, |_| true, |_| Some(Habit { seen }))
        };
        assert_eq!(seen(Seen::Finishes).wait(None, USUAL), Some(USUAL));
        let after = Duration::from_secs(2);
        let cut = seen(Seen::Cuts {
            connections: 3,
            generation: "gen1".to_owned(),
            after,
        });
        assert_eq!(cut.wait(None, USUAL), None);
        assert_eq!(cut.wait(Some(after), USUAL), None);
        let later = Duration::from_secs(20);
        assert_eq!(cut.wait(Some(later), USUAL), Some(later));
    }

    #[test]
    fn postgres_ends_its_sessions_when_everybody_waits_for_it() {
        let program = program("postgres");
        let signal = |alone| {
            let facts = Facts {
                program: Some(&program),
                alone,
                ..Facts::default()
            };
            recipe(facts, |_| true, |_| None)
        };
        assert_eq!(signal(false).signal, Signal::SIGTERM);
        assert_eq!(signal(true).signal, Signal::SIGINT);
        assert!(signal(true).saves && signal(true).effect == Effect::Cuts);
    }

    #[test]
    fn a_unit_names_its_signal() {
        let facts = Facts {
            unit: Some(Signal::SIGINT),
            ..Facts::default()
        };
        let recipe = recipe(facts, |_| true, |_| None);
        assert_eq!(
            (recipe.signal, recipe.source),
            (Signal::SIGINT, Source::Unit)
        );
        assert_eq!(recipe.effect, Effect::Unknown);
    }

    #[test]
    fn a_unit_that_would_cut_is_passed_over_for_what_is_known_to_finish() {
        let nginx = program("nginx");
        let facts = Facts {
            program: Some(&nginx),
            unit: Some(Signal::SIGINT),
            ..Facts::default()
        };
        let recipe = recipe(facts, |_| true, |_| None);
        assert_eq!(
            (recipe.signal, recipe.effect),
            (Signal::SIGQUIT, Effect::Finishes)
        );
    }
}
