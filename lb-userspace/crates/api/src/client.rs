//! The other side of the API: what the command line, tests and scripts in Rust use.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hotlb_core::trace_parent::{HEADER, TraceParent};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{self, HeaderMap, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::net::UnixStream;

use super::wire::{
    Done, EARLIEST, Failure, FlowList, History, Incident, IncidentId, IncidentList, Line, Progress,
    RolloutDetail, RolloutId, Status, VERSION, VERSION_HEADER, Windows,
};

/// How long the agent may take to say what it knows. It takes milliseconds.
const ANSWER: Duration = Duration::from_secs(15);

/// Why a request was not answered with success.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No agent at the socket.
    #[error(
        "no agent runs at {path} ({source}); start one with `hotlb agent` or `hotlb run`, or set \
         HOTLB_RUNTIME_DIR to that of a running agent"
    )]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No agent that could end the services.
    #[error(
        "no agent runs at {path} ({source}), but only an agent can end services: start one with \
         `hotlb agent`, then run `hotlb down`. If none starts, end servers and keepers at once \
         with `echo 1 > {}`, and remove the pins in {}",
        cgroup.join("cgroup.kill").display(),
        bpffs.display()
    )]
    NoAgentToEnd {
        /// Where servers and keepers would be.
        cgroup: PathBuf,
        /// Where the pins would be.
        bpffs: PathBuf,
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is one, and it says nothing.
    #[error(
        "the agent at {path} has not answered for {waited:?}: it is stopped, is being upgraded, \
         waits for a disk, or has no CPU. Servers and their clients do not need it; see what it \
         does (`ps -o pid,stat,wchan:20,args -C hotlb`); a stopped agent continues after \
         `kill -CONT`"
    )]
    Silent {
        /// The socket.
        path: PathBuf,
        /// For so long.
        waited: Duration,
    },
    /// The socket may not be used.
    #[error(
        "no permission to use the agent's socket {path}; try sudo, or ask root to add you to group \
         hotlb (read-only) and to [agent] operators (to operate)"
    )]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// The agent refused or failed.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The connection broke, or what came is not understood.
    #[error(
        "the agent's answer broke off: {0}; the request may have been carried out, or still be in \
         progress: see `hotlb history` and the agent's log. If the agent ended during a rollout, \
         the next agent finishes or undoes it: start one"
    )]
    Broken(String),
    /// Nobody can read the answer.
    #[error("the answer cannot be printed: {0}; the command itself succeeded")]
    Unprinted(io::Error),
}

impl ClientError {
    /// The exit code: see `docs/user/cli.md`.
    pub fn exit(&self) -> u8 {
        match self {
            Self::NoAgent { .. } | Self::NoAgentToEnd { .. } | Self::Silent { .. } => 3,
            Self::NotPermitted { .. } => 4,
            Self::Refused(failure) => failure.exit,
            Self::Broken(_) | Self::Unprinted(_) => 1,
        }
    }

    /// The error as the API would have sent it.
    pub fn to_failure(&self) -> Failure {
        let code = match self {
            Self::NoAgent { .. } | Self::NoAgentToEnd { .. } => "no_agent",
            Self::Silent { .. } => "silent",
            Self::NotPermitted { .. } => "not_permitted",
            Self::Refused(failure) => &failure.code,
            Self::Broken(_) => "broken",
            Self::Unprinted(_) => "unprinted",
        };
        Failure {
            code: code.to_owned(),
            message: self.to_string(),
            exit: self.exit(),
        }
    }
}

/// A client of the agent behind a socket. Each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    /// In whose trace things are asked for.
    parent: Option<TraceParent>,
    /// How long an answer may take that is only looked up.
    patience: Duration,
}

impl Client {
    /// A client of the agent at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            parent: None,
            patience: ANSWER,
        }
    }

    /// The same client, asking within this trace.
    #[must_use]
    pub fn within(&self, parent: Option<TraceParent>) -> Self {
        Self {
            parent,
            ..self.clone()
        }
    }

    /// Everything the agent knows.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get_marked("/v1/status", |told: &mut Status| &mut told.api)
            .await
    }

    /// The newest `limit` rollouts, of one service or of all. The service's name is a name: letters,
    /// digits, - and _.
    pub async fn history(&self, service: Option<&str>, limit: u32) -> Result<History, ClientError> {
        let service = service.map_or_else(String::new, |name| format!("service={name}&"));
        let path = format!("/v1/history?{service}limit={limit}");
        self.get_marked(&path, |told: &mut History| &mut told.api)
            .await
    }

    /// One rollout with everything that was written down.
    pub async fn rollout(&self, id: RolloutId) -> Result<RolloutDetail, ClientError> {
        self.get(&format!("/v1/history/{id}")).await
    }

    /// The newest `limit` incidents, of one service or of all, whose name is a name.
    pub async fn incidents(
        &self,
        service: Option<&str>,
        limit: u32,
    ) -> Result<IncidentList, ClientError> {
        let service = service.map_or_else(String::new, |name| format!("service={name}&"));
        let path = format!("/v1/incidents?{service}limit={limit}");
        self.get_marked(&path, |told: &mut IncidentList| &mut told.api)
            .await
    }

    /// One incident with everything.
    pub async fn incident(&self, id: IncidentId) -> Result<Incident, ClientError> {
        self.get(&format!("/v1/incidents/{id}")).await
    }

    /// The newest windows of a service, whose name is a name.
    pub async fn windows(&self, service: &str) -> Result<Windows, ClientError> {
        self.get(&format!("/v1/services/{service}/windows")).await
    }

    /// The `limit` flows of a service, whose name is a name, with the latest datagrams.
    pub async fn flows(&self, service: &str, limit: usize) -> Result<FlowList, ClientError> {
        let path = format!("/v1/services/{service}/flows?limit={limit}");
        self.get_marked(&path, |told: &mut FlowList| &mut told.api)
            .await
    }

    /// The metrics, in the form that `accept` names.
    pub async fn metrics(&self, accept: &'static str) -> Result<Vec<u8>, ClientError> {
        self.soon(async {
            let response = self.request_as(Method::GET, "/v1/metrics", Bytes::new(), accept);
            let response = response.await?;
            let good = response.status().is_success();
            let body = response.into_body().collect().await.map_err(broken)?;
            let body = Vec::from(body.to_bytes());
            if good {
                return Ok(body);
            }
            Err(broken(String::from_utf8_lossy(&body)))
        })
        .await
    }

    /// Asks what somebody else wants to look up, with the `headers` of who asked. The answer is whatever it is.
    #[doc(hidden)]
    pub async fn pass_on(
        &self,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Bytes>, ClientError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = path.parse().map_err(broken)?;
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        // Of the connection on which it was asked.
        headers.remove(header::CONNECTION);
        self.soon(async {
            let (parts, body) = self.send(request).await?.into_parts();
            let body = body.collect().await.map_err(broken)?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        })
        .await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.soon(async {
            let response = self.request(Method::GET, path, Bytes::new()).await?;
            value(response).await
        })
        .await
    }

    /// The same of what says the version of the API in `api`: what an agent of the version before says has the names
    /// of this one by now.
    async fn get_marked<T: DeserializeOwned>(
        &self,
        path: &str,
        api: impl FnOnce(&mut T) -> &mut u32,
    ) -> Result<T, ClientError> {
        let mut told = self.get(path).await?;
        *api(&mut told) = VERSION;
        Ok(told)
    }

    /// What is looked up and not done has its answer soon.
    async fn soon<T>(
        &self,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let answered = tokio::time::timeout(self.patience, answer).await;
        answered.unwrap_or_else(|_late| {
            Err(ClientError::Silent {
                path: self.socket.clone(),
                waited: self.patience,
            })
        })
    }

    /// Asks something that is answered at once.
    pub async fn ask<T: Serialize + Sync, A: DeserializeOwned>(
        &self,
        path: &str,
        request: &T,
    ) -> Result<A, ClientError> {
        let body = serde_json::to_vec(request).map_err(unspeakable)?;
        let response = self.request(Method::POST, path, body.into()).await?;
        value(response).await
    }

    /// Has the agent do something, and tells what it says on the way.
    pub async fn verb<T: Serialize + Sync>(
        &self,
        path: &str,
        request: &T,
        mut progress: impl FnMut(&Progress) + Send,
    ) -> Result<Done, ClientError> {
        let body = serde_json::to_vec(request).map_err(unspeakable)?;
        let response = self.request(Method::POST, path, body.into()).await?;
        if !response.status().is_success() {
            let body = response.into_body().collect().await.map_err(broken)?;
            return Err(refused(&body.to_bytes()));
        }
        let mut body = response.into_body();
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                pending.extend_from_slice(&data);
            }
            while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                match serde_json::from_slice(&line).map_err(broken)? {
                    Line::Progress(step) => progress(&step),
                    Line::Done(done) => return Ok(done),
                    Line::Error(failure) => return Err(ClientError::Refused(failure)),
                }
            }
        }
        Err(ClientError::Broken("the last line is missing".to_owned()))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        self.request_as(method, path, body, "application/json")
            .await
    }

    async fn request_as(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        accept: &'static str,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "hotlb")
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(parent) = &self.parent {
            request = request.header(HEADER, parent.to_string());
        }
        self.send(request.body(Full::new(body)).map_err(broken)?)
            .await
    }

    /// Sends the request; once more as [`EARLIEST`] has it, if the agent does not speak [`VERSION`]: an agent that
    /// refuses the version of a request has looked at nothing else of it.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        for version in [VERSION, EARLIEST] {
            let response = self.send_once(request.clone(), version).await?;
            if response.status() != StatusCode::UPGRADE_REQUIRED {
                return Ok(response);
            }
        }
        // An agent of now may have taken the place of an earlier one in between; one that has not says what it speaks.
        self.send_once(request, VERSION).await
    }

    async fn send_once(
        &self,
        mut request: Request<Full<Bytes>>,
        version: u32,
    ) -> Result<Response<Incoming>, ClientError> {
        let headers = request.headers_mut();
        headers.insert(VERSION_HEADER, HeaderValue::from(version));
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| self.unreachable(source))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Ends with the response; its errors are seen there.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(broken)
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let path = self.socket.clone();
        if source.kind() == io::ErrorKind::PermissionDenied {
            ClientError::NotPermitted { path }
        } else {
            ClientError::NoAgent { path, source }
        }
    }
}

/// What is answered at once: a value, or why there is none.
async fn value<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let good = response.status().is_success();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(broken)?
        .to_bytes();
    if good {
        serde_json::from_slice(&body).map_err(broken)
    } else {
        Err(refused(&body))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn unspeakable(error: serde_json::Error) -> ClientError {
    ClientError::Refused(Failure {
        code: "bad_request".to_owned(),
        message: format!("cannot encode the request: {error}"),
        exit: 2,
    })
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::Broken(error.to_string())
}

fn refused(body: &[u8]) -> ClientError {
    match serde_json::from_slice(body) {
        Ok(Line::Error(failure)) => ClientError::Refused(failure),
        _ => ClientError::Broken(String::from_utf8_lossy(body).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::Request, routing::get};
    use tokio::net::UnixListener;

    use super::*;

    /// An agent that speaks one version, and says so of any other.
    fn agent_of(version: u32, socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        let answer = move |request: Request| async move {
            let theirs = request.headers().get(VERSION_HEADER).cloned();
            if theirs != Some(HeaderValue::from(version)) {
                let said = format!(
                    "asked in {:?}, this agent speaks {version}",
                    theirs.unwrap()
                );
                let failure =
                    serde_json::json!({"error": {"code": "version", "message": said, "exit": 8}});
                return (StatusCode::UPGRADE_REQUIRED, failure.to_string());
            }
            let service = r#"{"name": "web", "mode": "overlap", "listen": [], "active": "gen2", "candidate": "gen1",
                "previous": null, "epoch": 2, "parked": 0, "warnings": [], "groups": [],
                "steering": {"calls": 0, "exits": {}, "migrated": {}},
                "promotes": 2, "rollbacks": 0, "failovers": 0, "generations": []}"#;
            let said = format!(
                r#"{{"api": {version}, "version": "0", "pid": 1, "services": [{service}]}}"#
            );
            (StatusCode::OK, said)
        };
        let router = Router::new().route("/v1/status", get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    #[tokio::test]
    async fn an_agent_of_the_earliest_version_is_asked_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("api.sock");
        agent_of(EARLIEST, &socket);
        let status = Client::new(&socket).status().await.unwrap();
        let [service] = status.services.try_into().unwrap();
        assert_eq!(service.fallback.as_deref(), Some("gen1"));
    }

    #[tokio::test]
    async fn an_agent_of_a_later_version_says_what_it_speaks() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("api.sock");
        agent_of(VERSION + 1, &socket);
        let refused = Client::new(&socket).status().await.unwrap_err();
        assert_eq!(refused.exit(), 8);
        let said = format!("asked in \"{VERSION}\", this agent speaks {}", VERSION + 1);
        assert_eq!(refused.to_string(), said);
    }

    #[tokio::test]
    async fn an_agent_that_says_nothing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("api.sock");
        let _stopped = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let client = Client {
            patience: Duration::from_millis(50),
            ..Client::new(&socket)
        };
        let silent = client.status().await.unwrap_err();
        assert_eq!(silent.exit(), 3);
        assert!(silent.to_string().contains("for 50ms"), "{silent}");
    }
}
