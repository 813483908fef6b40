//! A client that keeps its connection and reads whole responses.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::netns::Netns;

/// How long it waits for the next byte.
const LIMIT: Duration = Duration::from_secs(20);

/// The client.
#[derive(Debug)]
pub struct Kept {
    stream: BufReader<TcpStream>,
}

/// A whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its head, but for the line that changes every second.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether its client is asked to leave.
    pub fn asks_to_leave(&self) -> bool {
        value(&self.head, "connection").is_some_and(|value| value == "close")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Kept {
    /// Connects from within `netns`.
    pub fn open(netns: &Netns, target: SocketAddr) -> Result<Self> {
        let stream = netns.run(|| TcpStream::connect(target))??;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self {
            stream: BufReader::with_capacity(1 << 16, stream),
        })
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Sends a request with a cookie of so many bytes.
    pub fn ask(&mut self, method: &str, path: &str, cookie: usize) -> Result<()> {
        let cookie = match cookie {
            0 => String::new(),
            length => format!("Cookie: {}\r\n", "c".repeat(length)),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n{cookie}\r\n"
        );
        self.send(request.as_bytes())
    }

    /// Asks for `path`, which must be answered with 200.
    pub fn get(&mut self, path: &str, cookie: usize) -> Result<Answer> {
        self.ask("GET", path, cookie)?;
        let answer = self.answer()?;
        ensure!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
        Ok(answer)
    }

    /// The next response, of a request that gets a body.
    pub fn answer(&mut self) -> Result<Answer> {
        let head = self.head()?;
        let body = self.body(&head)?;
        Ok(Answer { head, body })
    }

    /// The next head, but for the line that changes every second.
    pub fn head(&mut self) -> Result<String> {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            ensure!(
                self.stream.read_line(&mut line)? > 0,
                "it ended in the head"
            );
            if line == "\r\n" {
                return Ok(head);
            }
            if !line.starts_with("Date:") {
                head.push_str(&line);
            }
        }
    }

    /// The body behind such a head.
    pub fn body(&mut self, head: &str) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = value(head, "content-length") {
            body.resize(length.parse()?, 0);
            self.stream.read_exact(&mut body)?;
            return Ok(body);
        }
        // Chunked: where the chunks end is the server's to choose, each time anew.
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16)?;
            let start = body.len();
            body.resize(start + length + 2, 0);
            let chunk = body.get_mut(start..).context("a chunk")?;
            self.stream.read_exact(chunk)?;
            ensure!(
                body.ends_with(b"\r\n"),
                "the chunk does not end where it says"
            );
            body.truncate(start + length);
            if length == 0 {
                return Ok(body);
            }
        }
    }
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// Fails with where they differ.
pub fn expect_same(what: &str, got: &[u8], expected: &[u8]) -> Result<()> {
    let differs = got
        .iter()
        .zip(expected)
        .position(|(got, expected)| got != expected);
    let Some(at) = differs.or((got.len() != expected.len()).then(|| got.len().min(expected.len())))
    else {
        return Ok(());
    };
    let piece = got.get(at..(at + 32).min(got.len())).unwrap_or_default();
    let elsewhere = expected
        .windows(piece.len().max(1))
        .position(|window| window == piece);
    let wrong = got
        .iter()
        .zip(expected)
        .filter(|(got, expected)| got != expected)
        .count();
    anyhow::bail!(
        "{what}: {} bytes for {}, differ from byte {at} on ({wrong} bytes in all); what came there stands at {elsewhere:?}: {piece:?}",
        got.len(),
        expected.len()
    )
}

/// Bytes that do not repeat soon, or for a text, lines that do and look like responses.
pub fn content(name: &str, size: usize) -> Vec<u8> {
    if name == "text.txt" {
        return b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"
            .iter()
            .copied()
            .cycle()
            .take(size)
            .collect();
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}
