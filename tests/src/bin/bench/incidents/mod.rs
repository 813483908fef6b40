//! Forty anomalies in a real run: which become incidents, and how many windows are passed over.

mod load;
mod plan;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use hotlb::{api::wire::Windows, config::IncidentPolicy, incident::Window};
use hotlb_tests::{
    host::Host,
    incidents::{
        self,
        recording::{Anomaly, Found, Outcome, Recording, row},
    },
    priority, report,
    servers::trouble,
    wait,
};
use nix::sys::signal::{Signal, kill};

use self::{
    load::Arrivals,
    plan::{Injection, Side, injections, rate},
};
use crate::{Scale, sample::against_aim};

/// Where the run is written to, beside the tests that read it again.
const RECORDING: &str = "tests/data/incidents.json";
const KEYS: &str = "listen = [\"0.0.0.0:8080\"]\n\
                    drain = { signal_after = \"40m\", deadline = \"50m\", polite = \"off\" }\n\
                    incidents = { pause = \"1s\", per_hour = 3600 }";
const TARGET: &str = "127.0.0.1:8080";
/// The generations, by their place in the recording.
const NAMES: [&str; 2] = [plan::KEPT.name, plan::NEW.name];
/// Kept connections of the first generation.
const KEPT: usize = 24;
const ANOMALIES: usize = 40;
/// Seconds after the last one.
const LAST: Duration = Duration::from_secs(15);
/// How often windows are read: the agent keeps two minutes of them.
const READ: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn measure(scale: Scale) -> Result<()> {
    // What else this machine does is not what is measured.
    priority::before_neighbours();
    let count = scale.rounds(ANOMALIES);
    let host = Host::with_service(KEYS)?;
    let target: SocketAddr = TARGET.parse()?;
    let server = |side: Side| trouble::command(side.name, side.control, &[]);
    host.upgrade(plan::KEPT.name, &server(plan::KEPT)?)?;
    let began = Instant::now();
    let kept = Arrivals::of_kept(host.netns(), (target, KEPT), |since| rate(since, 0), began)?;
    wait::until_true("kept connections are used", LIMIT, || {
        kept.answered() > 2 * KEPT as u64
    })?;
    host.deploy(plan::NEW.name, &server(plan::NEW)?)?;
    host.ok(&["promote", plan::NEW.name, "--no-wait"])?;
    let new = Arrivals::of_new(host.netns(), target, |since| rate(since, 1), began)?;
    let mut run = Run::new(&host);
    for injection in injections(count) {
        run.wait(began + injection.at)?;
        run.inject(&injection)?;
    }
    run.wait(Instant::now() + LAST)?;
    let (kept, new) = (kept.stop()?, new.stop()?);
    report::figure(
        "requests answered on kept connections, and on new ones",
        format!("{kept}, {new}"),
    );
    let recording = run.finish()?;
    let found = incidents_of(&host, &run)?;
    tell(&recording, &found)?;
    if !scale.quick {
        std::fs::write(RECORDING, compact(&recording)?).context(RECORDING)?;
        report::figure("recorded", RECORDING);
    }
    Ok(())
}

/// The run so far.
struct Run<'a> {
    host: &'a Host,
    began_ms: i64,
    windows: BTreeMap<(i64, usize), Window>,
    anomalies: Vec<Anomaly>,
    read: Instant,
}

impl<'a> Run<'a> {
    fn new(host: &'a Host) -> Self {
        Self {
            host,
            began_ms: now_ms(),
            windows: BTreeMap::new(),
            anomalies: Vec::new(),
            read: Instant::now(),
        }
    }

    /// Waits for the moment, reading windows meanwhile.
    fn wait(&mut self, until: Instant) -> Result<()> {
        while Instant::now() < until {
            let next = until.min(self.read + READ);
            wait::until_true("the moment", READ * 2, || Instant::now() >= next)?;
            if self.read.elapsed() >= READ {
                self.read_windows()?;
            }
        }
        Ok(())
    }

    fn read_windows(&mut self) -> Result<()> {
        self.read = Instant::now();
        let run = self
            .host
            .ok(&["incidents", "windows", "-n", "100000", "--output", "json"])?;
        let windows: Windows = serde_json::from_str(&run.stdout)?;
        for scored in windows.windows {
            let place = NAMES.iter().position(|name| *name == scored.generation);
            if let Some(place) = place.filter(|_| scored.window.at_ms >= self.began_ms) {
                self.windows
                    .insert((scored.window.at_ms, place), scored.window);
            }
        }
        Ok(())
    }

    /// Has something go wrong, and waits until it is over.
    fn inject(&mut self, injection: &Injection) -> Result<()> {
        let &Injection {
            to: Side { name, control },
            kind,
            lasts_ms,
            more,
            ..
        } = injection;
        let pid = self.host.generation(name)?.process()?;
        let from = now_ms();
        let over = Instant::now() + Duration::from_millis(lasts_ms);
        if kind == "stop" {
            kill(pid, Signal::SIGSTOP)?;
        } else {
            trouble::tell(
                self.host.netns(),
                control,
                &format!("{kind} {lasts_ms} {more}"),
            )?;
        }
        let waited = wait::until_true("it is over", LIMIT, || Instant::now() >= over);
        if kind == "stop" {
            kill(pid, Signal::SIGCONT)?;
        }
        waited?;
        let since = |ms: i64| u64::try_from(ms - self.began_ms);
        self.anomalies.push(Anomaly {
            generation: name.to_owned(),
            kind: format!("{kind} {more}").trim_end().to_owned(),
            from_ms: since(from)?,
            until_ms: since(now_ms())?,
        });
        Ok(())
    }

    fn finish(&mut self) -> Result<Recording> {
        self.read_windows()?;
        let rows = self.windows.iter();
        Ok(Recording {
            anomalies: self.anomalies.clone(),
            generations: NAMES.map(str::to_owned).into(),
            windows: rows
                .map(|(&(_, place), window)| row(place, window, self.began_ms))
                .collect(),
        })
    }
}

/// The incidents the agent kept.
fn incidents_of(host: &Host, run: &Run<'_>) -> Result<Vec<Found>> {
    let list = incidents::list(host)?;
    let found = list.into_iter().rev().map(|incident| {
        Ok(Found {
            at_ms: u64::try_from(incident.at_ms - run.began_ms)?,
            generation: incident.generation,
            score: incident.score,
            reason: incident.reason,
        })
    });
    found.collect()
}

fn tell(recording: &Recording, kept: &[Found]) -> Result<()> {
    let all = recording.anomalies.len();
    let (matched, others) = recording.match_up(kept);
    for (anomaly, found) in &matched {
        let said = found.map_or("NOT FOUND".to_owned(), |found| {
            format!("{:.2} {}", found.score, found.reason)
        });
        println!(
            "  {:>6.1} s {} {:<14} {said}",
            Duration::from_millis(anomaly.from_ms).as_secs_f64(),
            anomaly.generation,
            anomaly.kind
        );
    }
    for found in &others {
        println!(
            "  {:>6.1} s {} (none) {:.2} {}",
            Duration::from_millis(found.at_ms).as_secs_f64(),
            found.generation,
            found.score,
            found.reason
        );
    }
    let captured = matched.iter().filter(|(_, found)| found.is_some()).count();
    against_aim(
        "anomalies that became incidents",
        &format!("{captured} of {all}"),
        "39 of 40",
        captured * 40 >= all * 39,
    );
    report::figure("incidents without an anomaly", others.len());
    let mut limits = IncidentPolicy::default().limits;
    limits.pause = Duration::from_secs(1);
    limits.per_hour = 3_600;
    let outcome = recording.replay(&limits)?;
    let (again, _) = recording.match_up(&outcome.captured);
    let again = again.iter().filter(|(_, found)| found.is_some()).count();
    report::figure("the same, from the recording", format!("{again} of {all}"));
    dropped(&outcome);
    Ok(())
}

fn dropped(outcome: &Outcome) {
    let Outcome {
        windows,
        scored,
        unusual,
        captured,
    } = outcome;
    #[expect(clippy::cast_precision_loss, reason = "counts of windows")]
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
    report::figure(
        "windows, and those with a score",
        format!("{windows}, {scored}"),
    );
    let below = percent(scored - unusual, *scored);
    against_aim(
        "windows below the threshold, percent of those with a score",
        &format!("{below:.1}"),
        "at least 91.7",
        below >= 91.7,
    );
    let passed = percent(scored - captured.len(), *scored);
    report::figure(
        "windows not looked at closely, percent",
        format!("{passed:.1}"),
    );
}

fn compact(recording: &Recording) -> Result<String> {
    // A window a line, so that a change of one shows as one.
    let text = serde_json::to_string(recording)?;
    Ok(text.replace("],[", "],\n[").replace("},{", "},\n{") + "\n")
}

fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
