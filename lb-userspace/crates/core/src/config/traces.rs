//! Where traces go: `[traces]`, or without it what OpenTelemetry's own variables say.

use std::{collections::BTreeMap, env, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Deserializer};

use super::policy_tables::some_time;

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TracesProtocol {
    /// OTLP over gRPC; collectors usually listen on port 4317.
    #[default]
    Grpc,
    /// OTLP over HTTP, as protobuf; usually port 4318.
    Http,
}

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracesConfig {
    /// The collector's whole URL, its path included.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: TracesProtocol,
    /// Sent with each request.
    pub headers: BTreeMap<String, String>,
    /// The resource's `service.name`.
    pub service_name: String,
    /// More attributes of the resource.
    pub attributes: BTreeMap<String, String>,
    /// So many rollouts wait for a collector at most; 1 or more.
    pub queue: u32,
    /// How long a collector may take to answer; more than nothing.
    pub timeout: Duration,
}

const QUEUE: u32 = 256;
const TIMEOUT: Duration = Duration::from_secs(10);
const SERVICE_NAME: &str = "hotlb";
/// The path of OTLP over HTTP, below a collector's base URL.
const PATH: &str = "v1/traces";

/// `[traces]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TracesTable {
    endpoint: Endpoint,
    #[serde(default)]
    protocol: TracesProtocol,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    service_name: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    queue: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "timeout")]
    timeout: Option<Duration>,
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    some_time(deserializer, "the timeout must be greater than zero")
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Endpoint(String);

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        checked(&text)?;
        Ok(Self(text))
    }
}

/// Traces have secrets of hooks in them: what leaves the host is a collector's business.
fn checked(url: &str) -> Result<(), String> {
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(format!(
            "\"{url}\" is not an endpoint; expected http://HOST:PORT. hotlb has no TLS; a \
             collector on this host can forward traces with TLS"
        ));
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.is_empty() || url.contains(char::is_whitespace) {
        return Err(format!(
            "\"{url}\" is not an endpoint; expected http://HOST:PORT"
        ));
    }
    Ok(())
}

impl TracesTable {
    pub(super) fn resolve(self) -> TracesConfig {
        let Endpoint(endpoint) = self.endpoint;
        let has_path = endpoint
            .trim_start_matches("http://")
            .split_once('/')
            .is_some_and(|(_, path)| !path.is_empty());
        TracesConfig {
            endpoint: match self.protocol {
                TracesProtocol::Http if !has_path => below(&endpoint),
                _ => endpoint,
            },
            protocol: self.protocol,
            headers: self.headers,
            service_name: self.service_name.unwrap_or_else(service_name),
            attributes: self.attributes,
            queue: self.queue.map_or(QUEUE, NonZeroU32::get),
            timeout: self.timeout.unwrap_or(TIMEOUT),
        }
    }
}

fn below(base: &str) -> String {
    format!("{}/{PATH}", base.trim_end_matches('/'))
}

/// The variables that are heeded here.
const VARIABLES: [&str; 7] = [
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_SERVICE_NAME",
];

fn service_name() -> String {
    variable("OTEL_SERVICE_NAME").unwrap_or_else(|| SERVICE_NAME.to_owned())
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl TracesConfig {
    /// What `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT` and the variables
    /// beside them say; `None` without an endpoint, or when they switch traces off. Headers and
    /// attributes are read by the exporter itself.
    ///
    /// # Errors
    ///
    /// Which variable cannot be used, and why.
    pub fn from_env() -> Result<Option<Self>, String> {
        let is_bytes =
            |name: &&&str| env::var_os(name).is_some_and(|value| value.to_str().is_none());
        if let Some(name) = VARIABLES.iter().find(is_bytes) {
            return Err(format!("{name} is not UTF-8"));
        }
        Self::from_variables(variable)
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let says = |name: &str, value: &str| {
            variable(name).is_some_and(|said| said.eq_ignore_ascii_case(value))
        };
        if says("OTEL_SDK_DISABLED", "true") || says("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let of_traces = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let is_whole = of_traces.is_some();
        let Some(endpoint) = of_traces.or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT")) else {
            return Ok(None);
        };
        checked(&endpoint).map_err(|why| format!("OTEL_EXPORTER_OTLP_ENDPOINT: {why}"))?;
        let protocol = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
        let protocol = match protocol.as_deref() {
            Some("grpc") => TracesProtocol::Grpc,
            // The standard's own default.
            Some("http/protobuf") | None => TracesProtocol::Http,
            Some(other) => {
                return Err(format!(
                    "OTEL_EXPORTER_OTLP_PROTOCOL={other}: hotlb speaks grpc and http/protobuf"
                ));
            }
        };
        Ok(Some(Self {
            endpoint: match protocol {
                TracesProtocol::Http if !is_whole => below(&endpoint),
                _ => endpoint,
            },
            protocol,
            headers: BTreeMap::new(),
            service_name: variable("OTEL_SERVICE_NAME").unwrap_or_else(|| SERVICE_NAME.to_owned()),
            attributes: BTreeMap::new(),
            queue: QUEUE,
            timeout: TIMEOUT,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(variables: &[(&str, &str)]) -> Result<Option<TracesConfig>, String> {
        TracesConfig::from_variables(|wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn table(text: &str) -> Result<TracesConfig, String> {
        let table: Result<TracesTable, _> = toml::from_str(text);
        let table = table.map_err(|error| error.message().to_owned())?;
        Ok(table.resolve())
    }

    #[test]
    fn the_section_is_read() {
        let grpc = table("endpoint = \"http://127.0.0.1:4317\"").unwrap();
        assert_eq!(grpc.endpoint, "http://127.0.0.1:4317");
        assert_eq!((grpc.queue, grpc.timeout), (QUEUE, TIMEOUT));
        let http = "endpoint = \"http://[::1]:4318/\"\nprotocol = \"http\"\nqueue = 2";
        let http = table(http).unwrap();
        assert_eq!(http.endpoint, "http://[::1]:4318/v1/traces");
        assert_eq!(http.queue, 2);
        let whole = "endpoint = \"http://a:1/otlp\"\nprotocol = \"http\"";
        assert_eq!(table(whole).unwrap().endpoint, "http://a:1/otlp");
        for (text, expected) in [
            ("endpoint = \"https://a:1\"", "hotlb has no TLS"),
            ("endpoint = \"http://\"", "is not an endpoint"),
            ("endpoint = \"http://a:1\"\nqueue = 0", "nonzero"),
            (
                "endpoint = \"http://a:1\"\nprotocol = \"udp\"",
                "unknown variant",
            ),
            ("protocol = \"grpc\"", "missing field `endpoint`"),
        ] {
            let error = table(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_standard_variables_are_heeded() {
        assert_eq!(said(&[]), Ok(None));
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
        let found = said(&[base]).unwrap().unwrap();
        assert_eq!(found.protocol, TracesProtocol::Http);
        assert_eq!(found.endpoint, "http://a:4318/v1/traces");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let found = said(&[base, grpc]).unwrap().unwrap();
        assert_eq!(found.endpoint, "http://a:4318");
        let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:1/x");
        let found = said(&[base, whole]).unwrap().unwrap();
        assert_eq!(found.endpoint, "http://b:1/x");
        assert_eq!(said(&[base, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
        said(&[base, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]).unwrap_err();
    }
}
