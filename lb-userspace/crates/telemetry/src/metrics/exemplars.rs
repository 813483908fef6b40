//! Exemplars in what the encoder has written: it takes none for histograms that are not its own.

use std::fmt::Write as _;

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as model;

use super::row::Exemplar;

/// The label that leads to the trace.
const LABEL: &str = "trace_id";

/// The exemplars of a family, by the place of their bucket among all buckets of the family.
pub(super) type OfFamily = Vec<(usize, Exemplar)>;

/// Writes the exemplars of each family behind its buckets in a text of `OpenMetrics`.
pub(super) fn into_text(text: &str, families: &[(String, OfFamily)]) -> String {
    let mut written = String::with_capacity(text.len() + families.len() * 96);
    let mut current: Option<&(String, OfFamily)> = None;
    let mut place = 0;
    for line in text.lines() {
        written.push_str(line);
        if let Some(named) = line.strip_prefix("# TYPE ") {
            let name = named.split(' ').next().unwrap_or_default();
            current = families.iter().find(|(family, _)| family == name);
            place = 0;
        } else if let Some((name, exemplars)) = current
            && is_bucket(line, name)
        {
            let found = exemplars.iter().find(|(at, _)| *at == place);
            if let Some((_, exemplar)) = found {
                write(&mut written, exemplar);
            }
            place += 1;
        }
        written.push('\n');
    }
    written
}

fn is_bucket(line: &str, name: &str) -> bool {
    let rest = line.strip_prefix(name);
    rest.is_some_and(|rest| rest.starts_with("_bucket{"))
}

fn write(written: &mut String, exemplar: &Exemplar) {
    let Exemplar { trace, value, .. } = exemplar;
    // Writing to a string cannot fail.
    let _infallible = write!(written, " # {{{LABEL}=\"{trace}\"}} {value}");
    if let Some(at) = exemplar.at_ms {
        let _infallible = write!(written, " {}.{:03}", at / 1000, at % 1000);
    }
}

/// Puts the exemplars of a family into its buckets.
pub(super) fn into_family(family: &mut model::MetricFamily, exemplars: &OfFamily) {
    let histograms = family
        .metric
        .iter_mut()
        .filter_map(|m| m.histogram.as_mut());
    let buckets = histograms.flat_map(|histogram| histogram.bucket.iter_mut());
    for (place, bucket) in buckets.enumerate() {
        let found = exemplars.iter().find(|(at, _)| *at == place);
        bucket.exemplar = found.map(|(_, exemplar)| encoded(exemplar));
    }
}

fn encoded(exemplar: &Exemplar) -> model::Exemplar {
    model::Exemplar {
        label: vec![model::LabelPair {
            name: LABEL.to_owned(),
            value: exemplar.trace.clone(),
        }],
        value: exemplar.value,
        timestamp: exemplar.at_ms.map(|at| prost_types::Timestamp {
            seconds: at.div_euclid(1000),
            nanos: i32::try_from(at.rem_euclid(1000) * 1_000_000).unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_behind_its_bucket() {
        let text = "# TYPE a histogram\na_bucket{le=\"1.0\"} 0\na_bucket{le=\"+Inf\"} 1\n\
                    # TYPE a_b histogram\na_b_sum 1\na_b_bucket{le=\"+Inf\"} 1\n# EOF\n";
        let exemplar = |at_ms| Exemplar {
            trace: "12".to_owned(),
            value: 2.0,
            at_ms,
        };
        let families = [
            ("a".to_owned(), vec![(1, exemplar(None))]),
            ("a_b".to_owned(), vec![(0, exemplar(Some(1_007)))]),
        ];
        let found = into_text(text, &families);
        let wanted = text
            .replace(
                "+Inf\"} 1\n# TYPE a_b",
                "+Inf\"} 1 # {trace_id=\"12\"} 2\n# TYPE a_b",
            )
            .replace("1\n# EOF", "1 # {trace_id=\"12\"} 2 1.007\n# EOF");
        assert_eq!(found, wanted);
    }
}
