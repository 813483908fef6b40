//! An HTTP client that remembers the answer: the exporter on top of it keeps the status only.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, hyper::HyperClient};

use super::answer::{self, Untaken};

/// The client.
#[derive(Debug)]
pub(super) struct Listening {
    client: HyperClient,
    heard: Heard,
}

/// What was answered last, if it was no success.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Option<Untaken>>>);

impl Heard {
    /// Takes it.
    pub(super) fn take(&self) -> Option<Untaken> {
        self.put(None)
    }

    fn put(&self, answer: Option<Untaken>) -> Option<Untaken> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut heard, answer)
    }
}

impl Listening {
    /// A client whose answers come to `heard`.
    pub(super) fn new(patience: Duration, heard: Heard) -> Self {
        Self {
            client: HyperClient::with_default_connector(patience, None),
            heard,
        }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.client.send_bytes(request).await?;
        if !response.status().is_success() {
            let after = response.headers().get("retry-after");
            let after = after.and_then(|value| value.to_str().ok());
            let untaken = answer::http(response.status().as_u16(), after, response.body());
            self.heard.put(Some(untaken));
        }
        Ok(response)
    }
}

impl HttpClient for Listening {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.send(request))
    }
}
