//! An OTLP receiver: it keeps the spans it is sent, and can check that they are one connected trace.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, status::StatusCode},
};
use prost::Message as _;
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};
use tonic::transport::{Server, server::TcpIncoming};

use crate::{netns::Netns, patience, wait};

/// What it is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, protobuf, at `/v1/traces`.
    Http,
    /// It takes connections and says nothing, ever.
    Nothing,
}

/// A receiver that runs until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    kept: Kept,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Spans as they came.
type Kept = Arc<Mutex<Vec<Received>>>;

/// A span that was sent, and by whom.
#[derive(Debug, Clone)]
pub struct Received {
    /// The span.
    pub span: Span,
    /// The attributes of the resource.
    pub resource: BTreeMap<String, String>,
    /// The headers, in lower case, that came with it.
    pub headers: BTreeMap<String, String>,
}

impl Receiver {
    /// Starts one in the namespace; it can be connected to when this returns.
    pub fn start(netns: &Netns, address: SocketAddr, speaks: Speaks) -> Result<Self> {
        let kept = Kept::default();
        let (stop, stopped) = oneshot::channel();
        let (tell, listens) = mpsc::channel();
        let keeps = Arc::clone(&kept);
        let thread = netns.spawn("otlp", move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let listener = TcpListener::bind(address).await?;
                tell.send(())?;
                tokio::select! {
                    served = serve(listener, speaks, keeps) => served,
                    _ = stopped => Ok(()),
                }
            })
        })?;
        listens
            .recv_timeout(patience::of(Duration::from_secs(5)))
            .context("the receiver does not listen")?;
        Ok(Self {
            kept,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// All spans so far, in the order in which they came.
    pub fn received(&self) -> Vec<Received> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for so many traces; each of them, checked.
    pub fn wait_traces(&self, count: usize, limit: Duration) -> Result<Vec<Trace>> {
        let found = wait::until(&format!("{count} traces arrive"), limit, || {
            let traces = Trace::all(&self.received());
            (traces.len() >= count).then_some(traces)
        });
        found.with_context(|| format!("{:#?}", self.received()))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by an error; that is seen in what it did not receive.
            let _ended = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve(listener: TcpListener, speaks: Speaks, kept: Kept) -> Result<()> {
    match speaks {
        Speaks::Grpc => {
            let service = TraceServiceServer::new(Collector(kept));
            let incoming = TcpIncoming::from(listener);
            Ok(Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await?)
        }
        Speaks::Http => serve_http(listener, kept).await,
        Speaks::Nothing => {
            let mut held = Vec::new();
            loop {
                held.push(listener.accept().await?);
            }
        }
    }
}

struct Collector(Kept);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let headers = request.metadata().clone().into_headers();
        keep(&self.0, request.into_inner(), &headers);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn serve_http(listener: TcpListener, kept: Kept) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let kept = Arc::clone(&kept);
        let answer = service_fn(move |request| {
            let kept = Arc::clone(&kept);
            async move { Ok::<_, Infallible>(taken(request, &kept).await) }
        });
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

async fn taken(request: Request<Incoming>, kept: &Kept) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let request = body
        .ok()
        .and_then(|body| ExportTraceServiceRequest::decode(body).ok());
    let is_there = parts.uri.path() == "/v1/traces" && parts.method == "POST";
    let (code, answer) = match request {
        Some(request) if is_there => {
            keep(kept, request, &parts.headers);
            (200, ExportTraceServiceResponse::default().encode_to_vec())
        }
        _ => (400, Vec::new()),
    };
    let mut response = Response::new(Full::new(answer.into()));
    *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or_default();
    response
}

fn keep(kept: &Kept, request: ExportTraceServiceRequest, headers: &hyper::HeaderMap) {
    let headers: BTreeMap<String, String> = headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into(),
            )
        })
        .collect();
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap_or_default();
        let resource = attributes(&resource.attributes);
        let found = of_resource.scope_spans.into_iter();
        spans.extend(found.flat_map(|scope| scope.spans).map(|span| Received {
            span,
            resource: resource.clone(),
            headers: headers.clone(),
        }));
    }
    kept.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(spans);
}

/// Attributes as text.
fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| {
        let value = pair.value.as_ref()?.value.as_ref()?;
        let text = match value {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(number) => number.to_string(),
            Value::BoolValue(truth) => truth.to_string(),
            other => format!("{other:?}"),
        };
        Some((pair.key.clone(), text))
    };
    list.iter().filter_map(text).collect()
}

/// The spans of one trace.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// Its spans, in the order in which they came.
    pub spans: Vec<Span>,
}

impl Trace {
    /// The traces these spans belong to, in the order in which they came.
    pub fn all(received: &[Received]) -> Vec<Self> {
        let mut traces: Vec<Self> = Vec::new();
        for Received { span, .. } in received {
            let id = hex(&span.trace_id);
            match traces.iter_mut().find(|trace| trace.id == id) {
                Some(trace) => trace.spans.push(span.clone()),
                None => traces.push(Self {
                    id,
                    spans: vec![span.clone()],
                }),
            }
        }
        traces
    }

    /// Its root. An error unless there is one root, below `caller` if that is given, every other span has its parent
    /// in the trace, lies within its parent's time, and there is none twice.
    pub fn connected(&self, caller: Option<&str>) -> Result<&Span> {
        let mut ids: Vec<_> = self.spans.iter().map(|span| &span.span_id).collect();
        ids.sort();
        ids.dedup();
        ensure!(
            ids.len() == self.spans.len(),
            "a span came twice: {self:#?}"
        );
        let outside = caller.unwrap_or_default();
        let (roots, others): (Vec<_>, Vec<_>) = self
            .spans
            .iter()
            .partition(|span| hex(&span.parent_span_id) == outside);
        ensure!(roots.len() == 1, "{} roots: {self:#?}", roots.len());
        for span in others {
            let parent = self
                .spans
                .iter()
                .find(|other| other.span_id == span.parent_span_id);
            let parent = parent.with_context(|| format!("an orphan: {span:#?}"))?;
            ensure!(
                parent.start_time_unix_nano <= span.start_time_unix_nano
                    && span.end_time_unix_nano <= parent.end_time_unix_nano,
                "{span:#?} is not within {parent:#?}"
            );
        }
        roots.first().copied().context("a root")
    }

    /// The one span with this name.
    pub fn span(&self, name: &str) -> Result<&Span> {
        let mut found = self.spans.iter().filter(|span| span.name == name);
        let span = found
            .next()
            .ok_or_else(|| anyhow!("no span {name}: {self:#?}"))?;
        ensure!(found.next().is_none(), "{name} is there twice: {self:#?}");
        Ok(span)
    }

    /// The trace as a tree with lengths, for people.
    pub fn drawn(&self) -> Result<String> {
        let mut lines = Vec::new();
        self.draw(self.connected(None)?, 0, &mut lines);
        Ok(lines.join("\n"))
    }

    fn draw(&self, span: &Span, depth: usize, lines: &mut Vec<String>) {
        let name = format!("{}{}", "  ".repeat(depth), span.name);
        lines.push(format!("{name:<28}{:>6} ms", millis(span)));
        for child in self.below(span) {
            self.draw(child, depth + 1, lines);
        }
    }

    /// The spans below this one, by the time they began.
    pub fn below(&self, parent: &Span) -> Vec<&Span> {
        let is_child = |span: &&Span| span.parent_span_id == parent.span_id;
        let mut below: Vec<_> = self.spans.iter().filter(is_child).collect();
        below.sort_by_key(|span| span.start_time_unix_nano);
        below
    }
}

/// An attribute of a span, as text.
pub fn attribute(span: &Span, name: &str) -> Option<String> {
    attributes(&span.attributes).remove(name)
}

/// Why a span is an error, if it is one.
pub fn error(span: &Span) -> Option<&str> {
    let status = span.status.as_ref()?;
    (status.code() == StatusCode::Error).then_some(status.message.as_str())
}

/// How long a span is, in milliseconds.
pub fn millis(span: &Span) -> u64 {
    (span.end_time_unix_nano - span.start_time_unix_nano) / 1_000_000
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
