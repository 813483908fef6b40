//! A real Prometheus that scrapes the agent of a test, with the configuration and the alert rules of the docs.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{
    command::{self, Run},
    host::Host,
    locate,
    process::Process,
    wait,
};

const LISTEN: &str = "127.0.0.1:9090";
/// How long it may take to start, and one query to be answered.
const LIMIT: Duration = Duration::from_secs(30);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
}

/// One element of an instant vector.
#[derive(Debug, Clone, Deserialize)]
struct Element {
    value: (f64, String),
}

/// Why it cannot run here, if so.
pub fn missing() -> Option<&'static str> {
    let found = ["prometheus", "promtool"].map(locate::program);
    let all = found.iter().all(Option::is_some);
    (!all).then_some("prometheus is not installed")
}

/// The directory of the docs with alert rules and dashboard.
pub fn docs() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/prometheus"))
}

/// Runs `promtool` in the namespace of `host`.
pub fn promtool(host: &Host, arguments: &[&str]) -> Result<Run> {
    command::run(host.command("promtool").args(arguments), LIMIT)
}

impl Prometheus {
    /// Starts it in the namespace of `host`, scraping each second, and waits until it answers.
    pub fn start(host: &Host) -> Result<Self> {
        let directory = host.directory().join("prometheus");
        fs::create_dir_all(&directory)?;
        let config = fs::read_to_string(docs().join("prometheus.yml"))?;
        ensure!(config.contains("_interval: 5s"), "{config}");
        let config = config.replace("_interval: 5s", "_interval: 1s");
        fs::write(directory.join("prometheus.yml"), config)?;
        fs::copy(docs().join("alerts.yml"), directory.join("alerts.yml"))?;
        let mut command = host.command("prometheus");
        command
            .arg(format!(
                "--config.file={}",
                directory.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.join("data").display()
            ))
            .arg(format!("--web.listen-address={LISTEN}"));
        let process = Process::start(&mut command, &directory.join("log"))?;
        let prometheus = Self { process };
        wait::until_true("Prometheus has scraped the agent", LIMIT, || {
            let up = prometheus.query(host, "up{job=\"hotlb\"}");
            up.is_ok_and(|values| values == [1.0])
        })
        .with_context(|| prometheus.process.log())?;
        Ok(prometheus)
    }

    /// The values of an instant query, in no particular order.
    pub fn query(&self, host: &Host, expression: &str) -> Result<Vec<f64>> {
        let url = format!("http://{LISTEN}");
        let run = promtool(host, &["query", "instant", "-o", "json", &url, expression])?;
        let run = run.expect_success()?;
        let elements: Vec<Element> =
            serde_json::from_str(&run.stdout).with_context(|| run.describe())?;
        let values = elements.iter().map(|element| element.value.1.parse());
        values
            .collect::<Result<_, _>>()
            .with_context(|| run.describe())
    }

    /// Waits until the only value of `expression` is `expected`.
    pub fn wait_value(&self, host: &Host, expression: &str, expected: f64) -> Result<()> {
        let mut last = None;
        wait::until_true(&format!("{expression} is {expected}"), LIMIT, || {
            let values = self.query(host, expression);
            let is_it = matches!(&values, Ok(values) if *values == [expected]);
            last = Some(values);
            is_it
        })
        .with_context(|| format!("last seen: {last:?}\n{}", self.process.log()))
    }
}
