//! What the agent answers to a scrape.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{host::Host, http, patience};

/// Where the agent of a test is scraped, unless it is configured otherwise.
pub const ADDRESS: &str = "127.0.0.1:9464";
/// What Prometheus 2 asks for.
pub const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
/// What `promtool check metrics` reads.
pub const TEXT: &str = "text/plain;version=0.0.4";

/// One scrape.
#[derive(Debug, Clone)]
pub struct Exposition {
    /// The whole text.
    pub text: String,
    /// From the request to the last byte.
    pub took: Duration,
}

impl Exposition {
    /// Scrapes the agent of `host`, as a client that accepts `accept`.
    pub fn of(host: &Host, accept: &str) -> Result<Self> {
        let target: SocketAddr = ADDRESS.parse()?;
        host.netns().run(|| {
            let mut stream = TcpStream::connect(target)?;
            stream.set_read_timeout(Some(patience::of(Duration::from_secs(10))))?;
            let request = format!(
                "GET /metrics HTTP/1.1\r\nHost: {target}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
            );
            let began = Instant::now();
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            let took = began.elapsed();
            let answer = http::whole_response(answer)?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(Self { text: answer.body, took })
        })?
    }

    /// The values of all samples of `name` whose labels contain all of `labels` (`state="active"`).
    pub fn values(&self, name: &str, labels: &[&str]) -> Result<Vec<f64>> {
        let mut values = Vec::new();
        for line in self.text.lines() {
            let Some(rest) = line.strip_prefix(name) else {
                continue;
            };
            // Behind it there may be an exemplar.
            let rest = rest.split(" # ").next().unwrap_or(rest);
            if rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label)) {
                values.push(rest.rsplit(' ').next().context("an empty line")?.parse()?);
            }
        }
        Ok(values)
    }

    /// Their sum; 0 if there are none.
    pub fn sum(&self, name: &str, labels: &[&str]) -> Result<f64> {
        Ok(self.values(name, labels)?.iter().sum())
    }

    /// The value of the only such sample.
    pub fn value(&self, name: &str, labels: &[&str]) -> Result<f64> {
        match self.values(name, labels)?.as_slice() {
            [value] => Ok(*value),
            values => anyhow::bail!("{name} {labels:?}: {values:?} in\n{}", self.text),
        }
    }
}
