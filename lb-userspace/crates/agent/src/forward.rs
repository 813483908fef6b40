//! The reverse proxy of an agent that was handed over: what it is still asked, its successor answers.

use std::path::Path;

use axum::{
    body::Body,
    http::{HeaderMap, header},
    response::Response,
};

use crate::api::client::{Client, ClientError};

/// The answer to a GET of `path`, with its query, by the agent at `socket`.
///
/// # Errors
///
/// When there is none.
pub(crate) async fn forward(
    socket: &Path,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response, ClientError> {
    let answer = Client::new(socket).pass_on(path, headers.clone()).await?;
    let (mut parts, body) = answer.into_parts();
    // Of the connection on which it was answered, and of a body that came in pieces.
    for of_the_connection in [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ] {
        parts.headers.remove(of_the_connection);
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::to_bytes,
        extract::Request,
        http::{StatusCode, header::ACCEPT},
        routing::get,
    };
    use tokio::net::UnixListener;

    use super::*;
    use crate::api::wire::{VERSION, VERSION_HEADER};

    /// Says what it was asked.
    async fn asked(
        request: Request,
    ) -> (StatusCode, [(header::HeaderName, &'static str); 1], String) {
        let of = |name: &str| format!("{:?}", request.headers().get(name));
        let said = format!(
            "{} {} {} {}",
            request.method(),
            request.uri(),
            of("accept"),
            of(VERSION_HEADER)
        );
        let kind = [(header::CONTENT_TYPE, "text/x-asked")];
        (StatusCode::NOT_FOUND, kind, said)
    }

    #[tokio::test]
    async fn request_and_answer_stay_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("api.sock");
        let nobody = forward(&socket, "/v1/status", &HeaderMap::new()).await;
        assert_eq!(nobody.unwrap_err().exit(), 3);
        let listener = UnixListener::bind(&socket).unwrap();
        let router = Router::new().route("/v1/history", get(asked));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, "text/plain;q=0.5".parse().unwrap());
        headers.insert(header::CONNECTION, "close".parse().unwrap());
        let path = "/v1/history?service=a%20b&limit=3";
        let answer = forward(&socket, path, &headers).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/x-asked");
        let body = to_bytes(answer.into_body(), 1000).await.unwrap();
        let expected = format!("GET {path} Some(\"text/plain;q=0.5\") Some(\"{VERSION}\")");
        assert_eq!(String::from_utf8_lossy(&body), expected);
    }
}
