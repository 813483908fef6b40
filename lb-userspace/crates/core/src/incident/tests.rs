//! The first stage on windows made up for one property each; real ones are in `tests/data`.

use std::time::Duration;

use super::*;

const LIMITS: Limits = Limits {
    threshold: 0.6,
    pause: Duration::from_secs(1),
    per_hour: 100,
};

/// A second of `requests` that took so many milliseconds.
fn window(requests: u64, ms: u64) -> Window {
    let times = |us: u64| Quantiles {
        count: requests,
        p50: us,
        p90: us * 2,
        p99: us * 3,
    };
    Window {
        took_ms: 1_000,
        opened: requests,
        closed: requests,
        live: 10,
        requests,
        wait: times(500),
        service: times(ms * 1_000),
        cpu_us: Some(requests * 1_000),
        ..Window::default()
    }
}

/// A screen, and the second it is at.
#[derive(Default)]
struct Run {
    screen: Screen,
    second: u64,
}

impl Run {
    /// One second of several generations; the windows' scores.
    fn second(&mut self, windows: &[(u32, &str, Window)]) -> Vec<Option<Score>> {
        self.second += 1;
        let now = Duration::from_secs(self.second);
        let screened = self.screen.judge(windows, &LIMITS, now);
        screened
            .into_iter()
            .map(|screened| screened.score)
            .collect()
    }

    fn one(&mut self, window: Window) -> Option<Score> {
        self.second(&[(1, "gen1", window)]).remove(0)
    }

    /// So many seconds whose times vary by a tenth.
    fn usual(&mut self, seconds: u64, requests: u64, ms: u64) {
        for n in 0..seconds {
            let _known = self.one(window(requests + n % 7, ms + n % 2));
        }
    }
}

fn value(score: Option<Score>) -> f64 {
    score.expect("a score").value
}

#[test]
fn nothing_is_known_at_first_and_the_usual_is_low() {
    let mut run = Run::default();
    for _ in 0..20 {
        assert_eq!(run.one(window(100, 10)), None);
    }
    assert!(value(run.one(window(100, 10))) < 0.1);
    assert_eq!(run.one(window(1, 500)), None, "too little happened");
}

#[test]
fn what_takes_three_times_as_long_is_unusual_and_is_said() {
    let mut run = Run::default();
    run.usual(60, 100, 10);
    let score = run.one(window(100, 40)).unwrap();
    assert!(score.value >= 0.6, "{score:?}");
    assert!(score.reason.contains("usually"), "{score:?}");
    assert!(score.reason.starts_with("service time p"), "{score:?}");
    // A fifth longer is not.
    assert!(value(run.one(window(100, 12))) < 0.4);
    // And a millisecond in place of a fraction is nobody's trouble.
    let mut quick = Run::default();
    quick.usual(60, 100, 0);
    assert!(value(quick.one(window(100, 1))) < 0.6);
}

#[test]
fn another_level_of_load_is_usual_once_it_was_seen() {
    let mut run = Run::default();
    run.usual(30, 50, 10);
    run.usual(30, 200, 16);
    assert!(value(run.one(window(50, 10))) < 0.3);
    assert!(value(run.one(window(200, 16))) < 0.3);
    assert!(value(run.one(window(50, 30))) >= 0.6);
}

#[test]
fn an_anomaly_does_not_become_usual_by_happening_often() {
    let mut run = Run::default();
    for n in 0..120 {
        let ms = if n % 4 == 0 { 60 } else { 10 };
        let score = run.one(window(100, ms));
        if n > 40 && ms == 60 {
            assert!(value(score) >= 0.6, "second {n}");
        }
    }
}

#[test]
fn what_both_show_counts_half() {
    let mut run = Run::default();
    for _ in 0..40 {
        let _usual = run.second(&[(1, "gen1", window(100, 10)), (2, "gen2", window(100, 10))]);
    }
    let both = run.second(&[(1, "gen1", window(100, 28)), (2, "gen2", window(100, 28))]);
    let both: Vec<f64> = both.into_iter().map(value).collect();
    assert!(both.iter().all(|score| *score < 0.6), "{both:?}");
    let one = run.second(&[(1, "gen1", window(100, 28)), (2, "gen2", window(100, 10))]);
    let one: Vec<f64> = one.into_iter().map(value).collect();
    assert!(one[0] >= 0.6 && one[1] < 0.2, "{one:?}");
}

#[test]
fn a_generation_without_a_past_is_compared_with_the_other() {
    let mut run = Run::default();
    run.usual(40, 100, 10);
    for second in 0..12 {
        let slow = (2, "gen2", window(100, 60));
        let scores = run.second(&[(1, "gen1", window(100, 10)), slow]);
        match &scores[1] {
            None => assert!(second < 5, "second {second}"),
            Some(score) => {
                assert!(score.value >= 0.6, "{score:?}");
                assert!(score.reason.contains("gen1 at the same time"), "{score:?}");
            }
        }
    }
}

#[test]
fn losses_drops_and_silence_are_found() {
    let mut run = Run::default();
    run.usual(40, 100, 10);
    let with = |change: fn(&mut Window)| {
        let mut window = window(100, 10);
        change(&mut window);
        window
    };
    assert!(value(run.one(with(|w| w.lost = 1))) < 0.6);
    assert!(value(run.one(with(|w| w.lost = 5))) >= 0.6);
    assert!(value(run.one(with(|w| w.dropped = 5))) >= 0.6);
    let silent = Window {
        live: 30,
        unread: Some(0),
        ..window(5, 10)
    };
    assert!(value(run.one(silent)) < 0.6, "clients are silent");
    let stuck = Window {
        unread: Some(20),
        ..silent
    };
    let score = run.one(stuck).unwrap();
    assert!(score.value >= 0.6, "{score:?}");
    assert!(
        score.reason.contains("20 connections are waiting"),
        "{score:?}"
    );
}

#[test]
fn cpu_time_is_unusual_in_all_and_for_each() {
    let mut run = Run::default();
    run.usual(60, 100, 10);
    let burnt = Window {
        cpu_us: Some(500_000),
        ..window(100, 10)
    };
    let score = run.one(burnt).unwrap();
    assert!(
        score.value >= 0.6 && score.reason.starts_with("CPU time"),
        "{score:?}"
    );
}
