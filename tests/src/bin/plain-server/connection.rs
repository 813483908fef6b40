//! One connection: requests one after the other, until the client or the end of the server ends it.

use std::{future::pending, time::Duration};

use hotlb_tests::{failure::Failure, http};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::sleep,
};

use crate::arguments::Arguments;

/// How long a connection that has been answered before may stay silent after SIGTERM.
const LAST_CALL: Duration = Duration::from_millis(500);

/// What is answered.
pub(crate) struct Answers {
    name: String,
    delay: Duration,
    health: u16,
    bare: bool,
}

impl Answers {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Self {
            name: arguments.name.clone(),
            delay: Duration::from_millis(arguments.delay_ms),
            health: arguments.health_status,
            bare: arguments.bare,
        }
    }

    fn response(&self, path: &str, closes: bool) -> Vec<u8> {
        let status = if path == "/healthz" { self.health } else { 200 };
        let reason = if status == 200 { "OK" } else { "Told So" };
        let connection = match (closes, self.bare) {
            (true, _) => "Connection: close\r\n",
            (false, false) => "Connection: keep-alive\r\n",
            (false, true) => "",
        };
        let Self { name, .. } = self;
        let length = name.len() + 1;
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n"
        );
        format!("{head}{connection}X-Generation: {name}\r\n\r\n{name}\n").into_bytes()
    }
}

/// Answers until the connection ends. Its errors are the client's business.
pub(crate) async fn serve(
    mut stream: TcpStream,
    answers: impl AsRef<Answers>,
    ending: watch::Receiver<bool>,
) {
    drop(converse(&mut stream, answers.as_ref(), ending).await);
}

async fn converse(
    stream: &mut TcpStream,
    answers: &Answers,
    mut ending: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let mut buffer = Vec::with_capacity(1024);
    let mut answered = false;
    loop {
        let request = tokio::select! {
            biased;
            request = next_request(stream, &mut buffer) => request?,
            () = last_call(&mut ending, answered) => None,
        };
        let Some(request) = request else {
            return Ok(());
        };
        let delay = held(&request.path).unwrap_or(answers.delay);
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let closes = request.closes || *ending.borrow();
        let response = answers.response(&request.path, closes);
        stream
            .write_all(&response)
            .await
            .map_err(|error| Failure::from_io(error, 0))?;
        if closes {
            return Ok(());
        }
        answered = true;
    }
}

/// How long the answer to `/hold?ms=N` takes.
fn held(path: &str) -> Option<Duration> {
    let millis = path.strip_prefix("/hold?ms=")?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

/// The next whole request; none when the client has ended the connection. Nothing is lost when it is dropped half way.
async fn next_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> Result<Option<http::Request>, Failure> {
    loop {
        if let Some(request) = http::take_request(buffer)? {
            return Ok(Some(request));
        }
        if stream
            .read_buf(buffer)
            .await
            .map_err(|error| Failure::from_io(error, 0))?
            == 0
        {
            return Ok(None);
        }
    }
}

/// Ready when the server ends and a connection that has been answered stays silent. One that has not been answered yet
/// waits for its request as long as its client does.
async fn last_call(ending: &mut watch::Receiver<bool>, answered: bool) {
    if !answered || ending.wait_for(|ending| *ending).await.is_err() {
        return pending().await;
    }
    sleep(LAST_CALL).await;
}
