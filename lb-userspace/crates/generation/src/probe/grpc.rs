//! The health service of gRPC (`grpc.health.v1.Health/Check`), answered with SERVING.

use std::{error::Error, net::SocketAddr};

use hyper::{Request, Uri, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet};
use tonic::{Code, Status, body::Body};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::ProbeError;
use crate::sys::reader::printable;

/// The longest answer that is read: it is a number.
const ANSWER: usize = 4096;

/// The question, for messages.
pub(super) fn asked(address: SocketAddr, service: &str) -> String {
    let service = service.escape_debug();
    format!("{address} grpc.health.v1.Health/Check(\"{service}\")")
}

/// Asks for `service` over a connection of its own, without TLS.
pub(super) async fn check(
    stream: TcpStream,
    address: SocketAddr,
    service: &str,
) -> Result<(), ProbeError> {
    let refused = |answer| ProbeError::Grpc {
        asked: asked(address, service),
        answer,
    };
    let origin = Uri::builder()
        .scheme("http")
        .authority(address.to_string())
        .path_and_query("/")
        .build()
        .map_err(|error| refused(error.to_string()))?;
    // HTTP/2 begins with several small writes: they shall not wait for each other's ACK.
    stream
        .set_nodelay(true)
        .map_err(|source| ProbeError::Connection { address, source })?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| refused(chain(&error)))?;
    // Ends with this function, also when that is given up.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let channel = tower::service_fn(move |request: Request<Body>| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let question = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::with_origin(channel, origin)
        .max_decoding_message_size(ANSWER)
        .check(question)
        .await
        .map_err(|status| refused(describe(&status, service)))?
        .into_inner();
    match answer.status() {
        ServingStatus::Serving => Ok(()),
        other => Err(refused(other.as_str_name().to_owned())),
    }
}

fn describe(status: &Status, service: &str) -> String {
    match status.code() {
        Code::Unimplemented => {
            "the server has no health service; add it, or choose another check".to_owned()
        }
        Code::NotFound => format!("it does not know service \"{}\"", service.escape_debug()),
        code => match status.source() {
            // No answer at all: what the connection says.
            Some(source) => chain(source),
            None => printable(&format!("{code:?}: {}", status.message())),
        },
    }
}

/// An error and what is behind it.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    printable(&text)
}
