//! Answers: one JSON value, or a line for each step and one for the end.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Json,
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::{FutureExt as _, stream};
use tokio::sync::mpsc;

use super::gate::Gate;
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
pub(super) fn stream<F>(gate: &Arc<Gate>, what: &str, verb: impl FnOnce(Reporter) -> F) -> Response
where
    F: Future<Output = Result<Done, VerbError>> + Send + 'static,
{
    let (steps, said) = mpsc::unbounded_channel();
    let reporter = Reporter::to(steps);
    let pass = match gate.enter(what.to_owned(), reporter.fulfilled()) {
        Ok(pass) => pass,
        Err(error) => return failure(StatusCode::CONFLICT, verb_failure(&error.into())),
    };
    let running = verb(reporter);
    let verb = async move {
        tokio::select! {
            result = running => result,
            done = pass.outlived() => Ok(done),
        }
    };
    answer(said, verb)
}

/// As [`stream()`], for the verb that closes the gate.
pub(super) fn stream_ungated<F>(verb: impl FnOnce(Reporter) -> F) -> Response
where
    F: Future<Output = Result<Done, VerbError>> + Send + 'static,
{
    let (steps, said) = mpsc::unbounded_channel();
    answer(said, verb(Reporter::to(steps)))
}

fn answer(
    mut said: mpsc::UnboundedReceiver<Progress>,
    running: impl Future<Output = Result<Done, VerbError>> + Send + 'static,
) -> Response {
    let (lines, written) = mpsc::unbounded_channel::<Line>();
    tokio::spawn(async move {
        let mut last = None;
        let mut forward = |step: Progress| {
            if last.as_ref() != Some(&step) {
                // Nobody listens any more; the verb goes on.
                let _gone = lines.send(Line::Progress(step.clone()));
                last = Some(step);
            }
        };
        let running = AssertUnwindSafe(running).catch_unwind();
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
            Ok(Ok(done)) => Line::Done(done),
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to carry out a request");
                Line::Error(verb_failure(&error))
            }
            // The panic itself is in the log.
            Err(_panic) => Line::Error(broke()),
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

/// What is answered when the answer itself breaks.
fn broke() -> Failure {
    verb_failure(&VerbError::Broke {
        what: "the request".to_owned(),
        reason: "see the agent's log".to_owned(),
    })
}

fn encode(line: &Line) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text.into())
}
