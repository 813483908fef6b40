//! Answers: one JSON value, or a line for each step and one for the end.

use std::future::Future;

use axum::{
    Json,
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use tokio::sync::mpsc;

use crate::{
    agent::{Reporter, VerbError},
    api::wire::{Done, Failure, Line, Progress},
};

/// An error as one JSON value.
pub(super) fn failure(status: StatusCode, failure: Failure) -> Response {
    (status, Json(Line::Error(failure))).into_response()
}

/// The verb's own error.
pub(super) fn verb_failure(error: &VerbError) -> Failure {
    Failure {
        code: error.code().to_owned(),
        message: error.to_string(),
        exit: error.exit(),
    }
}

/// Runs a verb and streams what it says. The verb runs on even when nobody listens any more: a
/// promote is not half done because somebody pressed Ctrl-C.
pub(super) fn stream<F>(verb: impl FnOnce(Reporter) -> F) -> Response
where
    F: Future<Output = Result<Done, VerbError>> + Send + 'static,
{
    let (steps, mut said) = mpsc::unbounded_channel();
    let (lines, written) = mpsc::unbounded_channel::<Line>();
    let running = verb(Reporter::to(steps));
    tokio::spawn(async move {
        let mut last = None;
        let mut forward = |step: Progress| {
            if last.as_ref() != Some(&step) {
                // Nobody listens any more; the verb goes on.
                let _gone = lines.send(Line::Progress(step.clone()));
                last = Some(step);
            }
        };
        tokio::pin!(running);
        let result = loop {
            tokio::select! {
                biased;
                Some(step) = said.recv() => forward(step),
                // What the verb has begun may go on, and say more; that is for `status`.
                result = &mut running => break result,
            }
        };
        let line = match result {
            Ok(done) => Line::Done(done),
            Err(error) => {
                tracing::warn!(%error, "refused or failed");
                Line::Error(verb_failure(&error))
            }
        };
        let _gone = lines.send(line);
    });
    let body = stream::unfold(written, |mut written| async move {
        let line = written.recv().await?;
        Some((encode(&line), written))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(body),
    )
        .into_response()
}

fn encode(line: &Line) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text.into())
}
