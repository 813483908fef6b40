//! Connections that have sent their request and wait: what sits in an accept queue while nobody serves.

use std::{
    io::{ErrorKind, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    failure::Failure,
    http::{self, Response},
    netns::Netns,
    patience, wait,
};

/// How long a connection may take to be established, or an answer to come.
const LIMIT: Duration = Duration::from_secs(10);

/// Open connections, each with a request sent and nothing read.
#[derive(Debug)]
pub struct Waiting {
    streams: Vec<TcpStream>,
}

impl Waiting {
    /// Opens `count` connections one after the other and sends a request on each; fails when one is refused.
    pub fn open(netns: &Netns, target: SocketAddr, count: usize) -> Result<Self> {
        Self::open_path(netns, target, "/", count)
    }

    /// The same, asking for `path`.
    pub fn open_path(netns: &Netns, target: SocketAddr, path: &str, count: usize) -> Result<Self> {
        let streams = netns.run(|| {
            (0..count)
                .map(|_| connect(target, path))
                .collect::<Result<Vec<_>>>()
        })??;
        Ok(Self { streams })
    }

    /// Opens `count` connections and sends nothing: the server waits for their requests.
    pub fn silent(netns: &Netns, target: SocketAddr, count: usize) -> Result<Self> {
        let streams = netns.run(|| {
            let connections =
                (0..count).map(|_| TcpStream::connect_timeout(&target, patience::of(LIMIT)));
            connections.collect::<Result<Vec<_>, _>>()
        })??;
        Ok(Self { streams })
    }

    /// True when the other side has ended every connection, in order or not.
    pub fn all_ended(&self) -> bool {
        let ended = |stream| match peek(stream) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        self.streams.iter().all(ended)
    }

    /// Reads the answer of each; how it failed where it did.
    pub fn finish(self) -> Vec<Result<Response, Failure>> {
        self.streams
            .into_iter()
            .map(|mut stream| http::read_response_blocking(&mut stream))
            .collect()
    }

    /// Reads the answer of each; fails unless all are whole and have status 200.
    pub fn answers(self) -> Result<Vec<Response>> {
        let results = self.finish();
        let count = results.len();
        let mut answers = Vec::with_capacity(count);
        let mut failures = Vec::new();
        for result in results {
            match result {
                Ok(response) if response.status == 200 => answers.push(response),
                Ok(response) => failures.push(Failure::Status(response.status).to_string()),
                Err(failure) => failures.push(failure.to_string()),
            }
        }
        ensure!(
            failures.is_empty(),
            "{} of {count} connections got no answer: {:?}",
            failures.len(),
            failures.first()
        );
        Ok(answers)
    }

    /// Fails unless `generation` gave every answer.
    pub fn expect_by(self, generation: &str) -> Result<()> {
        let answers = self.answers()?;
        let all = answers.iter().all(|answer| answer.generation == generation);
        ensure!(all, "not all by {generation}: {answers:?}");
        Ok(())
    }

    /// True as soon as one of the connections is answered; false when none is within a second.
    pub fn any_answer(&self) -> bool {
        let answered = |stream: &TcpStream| peek(stream).is_ok_and(|count| count > 0);
        wait::until_true("an answer", Duration::from_secs(1), || {
            self.streams.iter().any(answered)
        })
        .is_ok()
    }

    /// Fails when one of the connections got anything: an answer, a reset or an end.
    pub fn expect_silence(&self) -> Result<()> {
        for stream in &self.streams {
            let seen = peek(stream);
            let silent = matches!(&seen, Err(error) if error.kind() == ErrorKind::WouldBlock);
            ensure!(silent, "a connection that should wait got {seen:?}");
        }
        Ok(())
    }
}

/// Looks whether there is something to read, without waiting; 0 is the end of the connection.
fn peek(stream: &TcpStream) -> std::io::Result<usize> {
    stream.set_nonblocking(true)?;
    let seen = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    seen
}

fn connect(target: SocketAddr, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target, patience::of(LIMIT))
        .with_context(|| format!("connect to {target}"))?;
    stream.set_read_timeout(Some(patience::of(LIMIT)))?;
    stream.write_all(&http::request(target, path, false))?;
    Ok(stream)
}
