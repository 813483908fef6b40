//! The collector: where spans go, by gRPC or HTTP.

use std::{collections::HashMap, time::Duration};

use hyper::header::{HeaderMap, HeaderName};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig as _,
    WithHttpConfig as _, WithTonicConfig as _, tonic_types::metadata::MetadataMap,
};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use thiserror::Error;
use tokio::time::timeout;

use super::{
    answer::{self, Untaken},
    listening::{Heard, Listening},
};
use crate::config::{TracesConfig, TracesProtocol};

/// Why no traces can be sent.
#[derive(Debug, Error)]
pub enum TracesError {
    /// The exporter does not accept the endpoint.
    #[error("[traces] endpoint = \"{endpoint}\": {reason}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What the exporter said.
        reason: String,
    },
    /// A header that HTTP does not allow.
    #[error(
        "[traces] headers: \"{0}\" is not a valid header: use letters, digits and - in its name, \
         and visible ASCII in its value"
    )]
    Header(String),
}

/// A collector that may or may not be there.
#[derive(Debug)]
pub(super) struct Collector {
    exporter: SpanExporter,
    /// How long it may take to answer.
    patience: Duration,
    /// What it said, by HTTP.
    heard: Heard,
}

impl Collector {
    pub(super) fn new(config: &TracesConfig) -> Result<Self, TracesError> {
        let heard = Heard::default();
        let built = match config.protocol {
            TracesProtocol::Grpc => SpanExporter::builder()
                .with_tonic()
                .with_endpoint(&config.endpoint)
                .with_timeout(config.timeout)
                .with_retry_policy(once())
                .with_metadata(metadata(config)?)
                .build(),
            TracesProtocol::Http => SpanExporter::builder()
                .with_http()
                .with_http_client(Listening::new(config.timeout, heard.clone()))
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(&config.endpoint)
                .with_timeout(config.timeout)
                .with_retry_policy(once())
                .with_headers(headers(config)?)
                .build(),
        };
        let mut exporter = built.map_err(|error: ExporterBuildError| TracesError::Endpoint {
            endpoint: config.endpoint.clone(),
            reason: error.to_string(),
        })?;
        exporter.set_resource(&resource(config));
        Ok(Self {
            exporter,
            patience: config.timeout,
            heard,
        })
    }

    /// Has the spans taken; says why they were not.
    pub(super) async fn take(&self, spans: Vec<SpanData>) -> Result<(), Untaken> {
        if spans.is_empty() {
            return Ok(());
        }
        match timeout(self.patience, self.exporter.export(spans)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let said = self.heard.take();
                Err(said.unwrap_or_else(|| answer::error(&error.to_string())))
            }
            Err(_elapsed) => {
                let patience = humantime::format_duration(self.patience);
                let why = format!("the collector did not answer within {patience}");
                Err(answer::error(&why))
            }
        }
    }
}

/// The journal keeps what is not taken, and knows when to try again.
fn once() -> RetryPolicy {
    RetryPolicy::disabled()
}

fn headers(config: &TracesConfig) -> Result<HashMap<String, String>, TracesError> {
    // The same rules for both protocols.
    metadata(config)?;
    Ok(config.headers.clone().into_iter().collect())
}

fn metadata(config: &TracesConfig) -> Result<MetadataMap, TracesError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let refused = || TracesError::Header(name.clone());
        let key: HeaderName = name.parse().map_err(|_bad| refused())?;
        headers.insert(key, value.parse().map_err(|_bad| refused())?);
    }
    Ok(MetadataMap::from_headers(headers))
}

/// Who sends: the configuration's words over those of `OTEL_SERVICE_NAME` and
/// `OTEL_RESOURCE_ATTRIBUTES`, which the builder reads.
fn resource(config: &TracesConfig) -> Resource {
    let own = [
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        (
            "host.name",
            rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        ),
    ];
    let own = own.map(|(name, value)| KeyValue::new(name, value));
    let attributes = config.attributes.iter();
    let attributes = attributes.map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let named = Resource::builder()
        .with_attributes(own)
        .with_service_name(config.service_name.clone());
    named.with_attributes(attributes).build()
}
