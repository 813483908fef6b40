//! Metrics in `OpenMetrics` text, computed at the scrape from the same values `status` shows.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text::encode},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use tokio::net::TcpListener;

use crate::{
    agent::Agent,
    api::wire::{GenerationStatus, ServiceStatus, Status},
    rollout::GenerationState,
    takeover::{Closing, Doorway},
};

/// Serves `/metrics` through `doorway` until `closing` returns and the last scrape is answered.
pub(crate) async fn serve(
    agent: Arc<Agent>,
    doorway: Doorway<TcpListener>,
    closing: Closing,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(agent);
    axum::serve(doorway, router)
        .with_graceful_shutdown(closing)
        .await
}

async fn metrics(State(agent): State<Arc<Agent>>) -> Response {
    match render(agent.status().await) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The text for a status.
pub fn render(status: Status) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(status)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// A status as a collector of metrics.
#[derive(Debug)]
struct Snapshot(Status);

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// A metric of every service: name, kind, what it says, its values.
struct Metric {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    values: fn(&ServiceStatus) -> Vec<Value>,
}

/// A value with its labels beyond `service`.
struct Value {
    labels: Vec<(&'static str, String)>,
    value: u64,
}

/// Every metric there is, but `hotlb_build_info`. `docs/metrics.md` lists the same.
const METRICS: [Metric; 17] = [
    Metric {
        name: "hotlb_connections_opened",
        kind: Kind::Counter,
        help: "Handshakes completed on a generation's listeners",
        values: |s| by_generation(s, |g| g.connections.opened),
    },
    Metric {
        name: "hotlb_connections_closed",
        kind: Kind::Counter,
        help: "Connections of a generation that ended, whoever ended them",
        values: |s| by_generation(s, |g| g.connections.closed),
    },
    Metric {
        name: "hotlb_connections_aborted",
        kind: Kind::Counter,
        help: "Subset of closed: reset by either side",
        values: |s| by_generation(s, |g| g.connections.aborted),
    },
    Metric {
        name: "hotlb_connections_moved_in",
        kind: Kind::Counter,
        help: "Unaccepted connections taken over from a listener that closed",
        values: |s| by_generation(s, |g| g.connections.moved_in),
    },
    Metric {
        name: "hotlb_connections_moved_out",
        kind: Kind::Counter,
        help: "Unaccepted connections that moved away because the listener closed",
        values: |s| by_generation(s, |g| g.connections.moved_out),
    },
    Metric {
        name: "hotlb_connections_live",
        kind: Kind::Gauge,
        help: "Connections of a generation that are open, unaccepted ones included",
        values: |s| by_generation(s, |g| g.connections.live),
    },
    Metric {
        name: "hotlb_drain_remaining_connections",
        kind: Kind::Gauge,
        help: "Open connections of a generation that is draining or stopping, else 0",
        values: |s| {
            by_generation(s, |g| match g.state {
                GenerationState::Draining | GenerationState::Stopping => g.connections.live,
                _ => 0,
            })
        },
    },
    Metric {
        name: "hotlb_generation_state",
        kind: Kind::Gauge,
        help: "1 for the state a generation is in, else 0",
        values: states,
    },
    Metric {
        name: "hotlb_steering_calls",
        kind: Kind::Counter,
        help: "Runs of the steering program; equals the sum of hotlb_steering_exits",
        values: |s| one(s.steering.calls),
    },
    Metric {
        name: "hotlb_steering_exits",
        kind: Kind::Counter,
        help: "How the steering program decided; migrating=true when a listener had closed",
        values: exits,
    },
    Metric {
        name: "hotlb_polite_connections",
        kind: Kind::Gauge,
        help: "Connections that are being asked to leave a draining generation",
        values: |s| one(s.polite.leaving),
    },
    Metric {
        name: "hotlb_polite_responses",
        kind: Kind::Counter,
        help: "Responses on such connections that were looked at, by what was done with them",
        values: polite_responses,
    },
    Metric {
        name: "hotlb_parked_connections",
        kind: Kind::Gauge,
        help: "Connections that wait for a generation",
        values: |s| one(s.parked),
    },
    Metric {
        name: "hotlb_promotes",
        kind: Kind::Counter,
        help: "Generations promoted",
        values: |s| one(s.promotes),
    },
    Metric {
        name: "hotlb_rollbacks",
        kind: Kind::Counter,
        help: "Promotes undone",
        values: |s| one(s.rollbacks),
    },
    Metric {
        name: "hotlb_failovers",
        kind: Kind::Counter,
        help: "Times another generation took over because the active one ended",
        values: |s| one(s.failovers),
    },
    Metric {
        name: "hotlb_warnings",
        kind: Kind::Gauge,
        help: "Warnings in status: what is not as it should be",
        values: |s| one(s.warnings.len() as u64),
    },
];

fn one(value: u64) -> Vec<Value> {
    vec![Value {
        labels: Vec::new(),
        value,
    }]
}

fn by_generation(service: &ServiceStatus, value: fn(&GenerationStatus) -> u64) -> Vec<Value> {
    service
        .generations
        .iter()
        .map(|generation| Value {
            labels: vec![("generation", generation.name.clone())],
            value: value(generation),
        })
        .collect()
}

fn states(service: &ServiceStatus) -> Vec<Value> {
    let mut values = Vec::new();
    for generation in &service.generations {
        for state in GenerationState::ALL {
            values.push(Value {
                labels: vec![
                    ("generation", generation.name.clone()),
                    ("state", state.name().to_owned()),
                ],
                value: u64::from(generation.state == state),
            });
        }
    }
    values
}

fn exits(service: &ServiceStatus) -> Vec<Value> {
    let tables = [
        ("false", &service.steering.exits),
        ("true", &service.steering.migrated),
    ];
    let mut values = Vec::new();
    for (migrating, exits) in tables {
        for (exit, &value) in exits {
            values.push(Value {
                labels: vec![("exit", exit.clone()), ("migrating", migrating.to_owned())],
                value,
            });
        }
    }
    values
}

fn polite_responses(service: &ServiceStatus) -> Vec<Value> {
    let responses = service.polite.responses.iter();
    responses
        .map(|(outcome, &value)| Value {
            labels: vec![("outcome", outcome.clone())],
            value,
        })
        .collect()
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for metric in &METRICS {
            self.encode_metric(metric, &mut encoder)?;
        }
        let info = ConstGauge::new(1_u64);
        let mut family = encoder.encode_descriptor(
            "hotlb_build_info",
            "Version of the agent; always 1",
            None,
            info.metric_type(),
        )?;
        let labels = [("version", self.0.version.clone())];
        info.encode(family.encode_family(&labels)?)
    }
}

impl Snapshot {
    fn encode_metric(
        &self,
        metric: &Metric,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let kind = match metric.kind {
            Kind::Counter => ConstCounter::new(0_u64).metric_type(),
            Kind::Gauge => ConstGauge::new(0_u64).metric_type(),
        };
        let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
        for service in &self.0.services {
            for value in (metric.values)(service) {
                let mut labels = vec![("service", service.name.clone())];
                labels.extend(value.labels);
                let encoder = family.encode_family(&labels)?;
                match metric.kind {
                    Kind::Counter => ConstCounter::new(value.value).encode(encoder)?,
                    Kind::Gauge => ConstGauge::new(value.value).encode(encoder)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::wire::SteeringStatus;

    #[test]
    fn is_openmetrics_with_every_metric_once() {
        let service = ServiceStatus {
            name: "web".into(),
            mode: crate::config::HandOver::Overlap,
            listen: vec![],
            active: None,
            candidate: None,
            previous: None,
            epoch: 0,
            parked: 3,
            awaits_adopt: false,
            warnings: vec![],
            groups: vec![],
            steering: SteeringStatus {
                calls: 7,
                exits: BTreeMap::from([("active".into(), 7)]),
                migrated: BTreeMap::new(),
            },
            polite: crate::api::wire::PoliteStatus::default(),
            promotes: 1,
            rollbacks: 0,
            rollout: None,
            failovers: 0,
            generations: vec![],
        };
        let text = render(Status {
            api: 1,
            version: "1.2.3".into(),
            pid: 1,
            warnings: vec![],
            services: vec![service],
        })
        .unwrap();
        assert!(
            text.contains("hotlb_steering_calls_total{service=\"web\"} 7\n"),
            "{text}"
        );
        assert!(text.contains("hotlb_parked_connections{service=\"web\"} 3\n"));
        assert!(text.contains("hotlb_build_info{version=\"1.2.3\"} 1\n"));
        assert!(text.ends_with("# EOF\n"));
        for metric in &METRICS {
            let line = format!("# TYPE {} ", metric.name);
            assert_eq!(text.matches(&line).count(), 1, "{line}");
        }
    }
}
