//! A real Prometheus that scrapes the agent of a test, with the configuration and the alert rules of the docs.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    time::Duration,
};

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

#[derive(Debug, Deserialize)]
struct Exemplars {
    data: Vec<OfSeries>,
}

#[derive(Debug, Deserialize)]
struct OfSeries {
    exemplars: Vec<Exemplar>,
}

/// A value that leads to a trace.
#[derive(Debug, Clone, Deserialize)]
pub struct Exemplar {
    /// Its labels: `trace_id`.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: String,
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
        Self::start_with(host, &[])
    }

    /// The same with these of its features.
    pub fn start_with(host: &Host, features: &[&str]) -> Result<Self> {
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
        if !features.is_empty() {
            command.arg(format!("--enable-feature={}", features.join(",")));
        }
        let process = Process::start(&mut command, &directory.join("log"))?;
        let prometheus = Self { process };
        wait::until_true("Prometheus has scraped the agent", LIMIT, || {
            let up = prometheus.query(host, "up{job=\"hotlb\"}");
            up.is_ok_and(|values| values == [1.0])
        })
        .with_context(|| prometheus.process.log())?;
        Ok(prometheus)
    }

    /// The traces that lead off from these series, and the values that do: exemplars of the last hour.
    pub fn exemplars(&self, host: &Host, series: &str) -> Result<Vec<Exemplar>> {
        let path = format!("/api/v1/query_exemplars?query={series}&start=0&end=99999999999");
        let body = host.netns().run(|| {
            let mut stream = TcpStream::connect(LISTEN)?;
            stream.set_read_timeout(Some(LIMIT))?;
            // Of this version the end of the answer is that of the connection.
            write!(stream, "GET {path} HTTP/1.0\r\nHost: {LISTEN}\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            anyhow::Ok(answer)
        })??;
        let (_, body) = body.split_once("\r\n\r\n").context("no body")?;
        let answer: Exemplars = serde_json::from_str(body).with_context(|| body.to_owned())?;
        let all = answer.data.into_iter().flat_map(|series| series.exemplars);
        Ok(all.collect())
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
