//! Raw requests to the control socket, for what the CLI would never send.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::patience;

/// How long the agent may take for an answer.
const LIMIT: Duration = Duration::from_secs(10);

/// The version of the control API.
pub const VERSION: &str = "2";

/// An answer of the control API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status code.
    pub code: u16,
    /// The whole body.
    pub body: String,
}

/// Sends one request with the `hotlb-api` header set to `version`, and reads the whole answer.
pub fn request(
    socket: &Path,
    method: &str,
    path: &str,
    version: &str,
    body: &str,
) -> Result<Answer> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "hotlb")
        .header("hotlb-api", version)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_owned())))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::time::timeout(patience::of(LIMIT), exchange(socket, request))
            .await
            .context("no answer from the agent")?
    })
}

async fn exchange(socket: &Path, request: Request<Full<Bytes>>) -> Result<Answer> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("connect to {}", socket.display()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok(Answer {
        code,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Whether an agent, of this release or of a former one, answers there.
pub fn serves(socket: &Path) -> bool {
    [VERSION, "1"].into_iter().any(|version| {
        let answer = request(socket, "GET", "/v1/status", version, "");
        answer.is_ok_and(|answer| answer.code == 200)
    })
}
