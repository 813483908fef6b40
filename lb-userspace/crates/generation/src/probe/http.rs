//! A GET, answered with a status of 200 to 399.

use std::{io, net::SocketAddr};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use super::ProbeError;

/// Asks for `path` over a connection of its own.
pub(super) async fn get(
    stream: TcpStream,
    address: SocketAddr,
    path: &str,
) -> Result<(), ProbeError> {
    let fail = |source| ProbeError::Http {
        address,
        path: path.to_owned(),
        source,
    };
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "hotlb-probe")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| ProbeError::Connection {
            address,
            source: io::Error::other(error),
        })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(fail)?;
    // Ends with this function, also when that is given up.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut response = sender.send_request(request).await.map_err(fail)?;
    // The whole answer must come, but nobody wants to keep it.
    while let Some(frame) = response.frame().await {
        frame.map_err(fail)?;
    }
    match response.status() {
        status if status.is_success() || status.is_redirection() => Ok(()),
        status => Err(ProbeError::Status {
            address,
            path: path.to_owned(),
            status: status.as_u16(),
        }),
    }
}
