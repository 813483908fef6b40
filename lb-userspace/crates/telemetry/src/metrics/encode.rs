//! The answer to a scrape. What it looks like is prometheus-client's business.

use std::{borrow::Cow, fmt::Error};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, prometheus_protobuf, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::{Registry, Unit},
};

use prost::Message as _;

use super::{
    Format,
    exemplars::{self, OfFamily},
    row::{Histogram, Kind, Metric, Value},
    table,
};
use crate::observed::Observed;

type NoLabels = [(&'static str, &'static str); 0];
const NO_EXEMPLAR: Option<&Exemplar<NoLabels, f64>> = None;

/// The answer for what was observed.
///
/// # Errors
///
/// None that is known: it is written to memory.
pub fn render(observed: &Observed, format: Format) -> Result<Vec<u8>, Error> {
    let mut written = Vec::new();
    for metric in table::all() {
        written.push(Written::of(metric, observed, format));
    }
    let exemplars = written.iter().map(Written::exemplars);
    let exemplars: Vec<_> = exemplars.filter(|(_, found)| !found.is_empty()).collect();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(written)));
    let mut text = String::new();
    match format {
        Format::OpenMetrics => {
            text::encode(&mut text, &registry)?;
            text = exemplars::into_text(&text, &exemplars);
        }
        // Its end is not marked, and it has no exemplars.
        Format::Text => text::encode_registry(&mut text, &registry)?,
        Format::Protobuf => return protobuf(&registry, &exemplars),
    }
    Ok(text.into_bytes())
}

fn protobuf(registry: &Registry, exemplars: &[(String, OfFamily)]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for mut family in prometheus_protobuf::encode(registry)? {
        if let Some((_, exemplars)) = exemplars.iter().find(|(name, _)| *name == family.name) {
            exemplars::into_family(&mut family, exemplars);
        }
        // It fails only where there is no room, and a vector grows.
        if family.encode_length_delimited(&mut bytes).is_err() {
            return Err(Error);
        }
    }
    Ok(bytes)
}

/// All metrics with their samples.
#[derive(Debug)]
struct Page(Vec<Written>);

/// A metric as it is written.
#[derive(Debug)]
struct Written {
    name: Cow<'static, str>,
    unit: Option<Unit>,
    kind: Kind,
    help: &'static str,
    format: Format,
    samples: Vec<(Vec<(&'static str, String)>, Value)>,
}

impl Written {
    fn of(metric: &Metric, observed: &Observed, format: Format) -> Self {
        let (name, unit) = match format {
            Format::OpenMetrics | Format::Protobuf => {
                let (name, unit) = metric.split();
                (name.into(), unit.map(|unit| Unit::Other(unit.to_owned())))
            }
            // There the whole name is said of the family too, and units are not known.
            Format::Text => (metric.whole_name(), None),
        };
        let samples = metric.samples(observed).into_iter().map(|sample| {
            let labels = metric.labels.iter().copied().zip(sample.labels);
            (labels.collect(), sample.value)
        });
        Self {
            name,
            unit,
            kind: metric.kind,
            help: metric.help,
            format,
            samples: samples.collect(),
        }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let mut family =
            encoder.encode_descriptor(&self.name, self.help, self.unit.as_ref(), kind)?;
        for (labels, value) in &self.samples {
            self.encode_value(value, family.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn encode_value(&self, value: &Value, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        // The encoder adds `_total`, which the name has already in the other format.
        let counts = self.kind == Kind::Counter && self.format != Format::Text;
        match value {
            Value::Whole(value) if counts => encoder.encode_counter(value, NO_EXEMPLAR),
            Value::Real(value) if counts => encoder.encode_counter(value, NO_EXEMPLAR),
            Value::Whole(value) => encoder.encode_gauge(value),
            Value::Real(value) => encoder.encode_gauge(value),
            Value::Histogram(histogram) => encode_histogram(histogram, encoder),
        }
    }

    /// The name of the family, and its exemplars by the place of their bucket in all of it.
    fn exemplars(&self) -> (String, OfFamily) {
        let mut found = Vec::new();
        let mut place = 0;
        for (_, value) in &self.samples {
            if let Value::Histogram(histogram) = value {
                let own = histogram.exemplars.iter();
                found.extend(own.map(|(bucket, exemplar)| (place + bucket, exemplar.clone())));
                place += histogram.buckets.len();
            }
        }
        let unit = self.unit.as_ref().map(Unit::as_str);
        let name = unit.map_or_else(
            || self.name.to_string(),
            |unit| format!("{}_{unit}", self.name),
        );
        (name, found)
    }
}

fn encode_histogram(histogram: &Histogram, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
    let Histogram { sum, buckets, .. } = histogram;
    let count = buckets.iter().map(|(_, count)| count).sum();
    match &histogram.native {
        // The text has the classic buckets only.
        Some(native) => encoder.encode_histogram_with_native::<NoLabels>(
            *sum,
            count,
            buckets,
            None,
            native.encoded(),
        ),
        None => encoder.encode_histogram::<NoLabels>(*sum, count, buckets, None),
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        self.0
            .iter()
            .try_for_each(|written| written.encode(&mut encoder))
    }
}

impl Metric {
    /// The name of its samples: a histogram's end in `_bucket`, `_sum` and `_count` beside.
    pub(super) fn whole_name(&self) -> Cow<'static, str> {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name).into(),
            Kind::Gauge | Kind::Histogram => self.name.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::{ObservedService, ObservedSupport};

    fn text(format: Format) -> String {
        String::from_utf8(render(&observed(), format).unwrap()).unwrap()
    }

    fn observed() -> Observed {
        let service = ObservedService {
            name: "web".into(),
            parked: 3,
            promotes: 7,
            ..ObservedService::default()
        };
        let support = ObservedSupport {
            name: "pins",
            restored: 2,
            is_missing: false,
        };
        Observed {
            dropped: std::collections::BTreeMap::new(),
            journal_writable: true,
            supports: vec![support],
            process: None,
            services: vec![service],
        }
    }

    #[test]
    fn openmetrics_has_every_metric_once_with_its_unit() {
        let text = text(Format::OpenMetrics);
        assert!(text.contains("\nhotlb_promotes_total{service=\"web\"} 7\n"));
        assert!(text.contains("\nhotlb_parked_connections{service=\"web\"} 3\n"));
        assert!(text.contains("\n# UNIT process_cpu_seconds seconds\n"));
        assert!(text.ends_with("# EOF\n"));
        for metric in table::all() {
            let line = format!("# TYPE {} ", metric.name);
            assert_eq!(text.matches(&line).count(), 1, "{line}");
            let help = format!("# HELP {} {}", metric.name, metric.help);
            assert!(text.contains(&help), "{help}");
        }
    }

    #[test]
    fn plain_text_names_families_as_their_samples() {
        let text = text(Format::Text);
        assert!(text.contains(
            "# TYPE hotlb_promotes_total counter\nhotlb_promotes_total{service=\"web\"} 7\n"
        ));
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
        let bucket = "hotlb_promote_duration_seconds_bucket{le=\"+Inf\",service=\"web\"} 0\n";
        assert!(text.contains(bucket), "{text}");
    }

    #[test]
    fn protobuf_names_series_as_the_text_does() {
        let bytes = render(&observed(), Format::Protobuf).unwrap();
        let mut rest = bytes.as_slice();
        let mut names = Vec::new();
        while !rest.is_empty() {
            let family =
                prometheus_protobuf::prometheus_data_model::MetricFamily::decode_length_delimited(
                    &mut rest,
                )
                .unwrap();
            names.push(family.name);
        }
        let wanted: Vec<_> = table::all().map(Metric::whole_name).collect();
        assert_eq!(names, wanted);
    }

    #[test]
    fn every_sample_has_the_labels_of_its_row() {
        for metric in table::all() {
            for sample in metric.samples(&observed()) {
                assert_eq!(sample.labels.len(), metric.labels.len(), "{}", metric.name);
            }
        }
    }
}
