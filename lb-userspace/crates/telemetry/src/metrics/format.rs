//! In which form a scrape is answered.

/// A form of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.0, which Prometheus asks for.
    #[default]
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus, which `promtool check metrics` reads.
    Text,
    /// The messages of Prometheus, each behind its length: the one with native histograms, which a
    /// Prometheus asks for that stores them.
    Protobuf,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OpenMetrics, Self::Text, Self::Protobuf];

    /// The form that a client likes best; of two that it likes as well, the one that it names
    /// first. Plain text only if it does not name another one.
    pub fn accepted(accept: Option<&str>) -> Self {
        let named = accept.unwrap_or_default().split(',');
        let mut best: Option<(Self, f32)> = None;
        for (format, quality) in named.filter_map(Self::named) {
            let is_better = match best {
                None => true,
                Some((Self::Text, _)) => format != Self::Text,
                Some((_, best)) => format != Self::Text && quality > best,
            };
            if is_better {
                best = Some((format, quality));
            }
        }
        best.map(|(format, _)| format).unwrap_or_default()
    }

    /// A form, and how much it is liked, from 0 to 1.
    fn named(media: &str) -> Option<(Self, f32)> {
        let mut parts = media.split(';').map(str::trim);
        let kind = parts.next()?;
        let parameters: Vec<&str> = parts.collect();
        let format = match kind {
            "application/openmetrics-text" => Self::OpenMetrics,
            "text/plain" => Self::Text,
            "application/vnd.google.protobuf"
                if parameters.contains(&"proto=io.prometheus.client.MetricFamily")
                    && parameters.contains(&"encoding=delimited") =>
            {
                Self::Protobuf
            }
            _ => return None,
        };
        let quality = parameters.iter().find_map(|part| part.strip_prefix("q="));
        let quality = quality.map_or(Some(1.0), |quality| quality.parse().ok())?;
        (quality > 0.0).then_some((format, quality))
    }

    /// The value of the header Content-Type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_insist_on_plain_text_gets_openmetrics() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
        let odd = "text/plain,application/openmetrics-text;q=0.1";
        let other = "application/vnd.google.protobuf;proto=x;encoding=delimited,*/*;q=0.1";
        for accept in [None, Some("*/*"), Some(prometheus), Some(odd), Some(other)] {
            assert_eq!(Format::accepted(accept), Format::OpenMetrics, "{accept:?}");
        }
        for format in Format::ALL {
            assert_eq!(Format::accepted(Some(format.content_type())), format);
        }
    }

    #[test]
    fn protobuf_is_for_those_who_like_it_best() {
        let protobuf = "application/vnd.google.protobuf;\
                        proto=io.prometheus.client.MetricFamily;encoding=delimited";
        // Prometheus 2 with native histograms, and one that would rather have text.
        let first =
            format!("{protobuf},application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1");
        let last = format!("application/openmetrics-text;q=0.9,{protobuf};q=0.4");
        assert_eq!(Format::accepted(Some(&first)), Format::Protobuf);
        assert_eq!(Format::accepted(Some(&last)), Format::OpenMetrics);
        let never = format!("{protobuf};q=0,text/plain");
        assert_eq!(Format::accepted(Some(&never)), Format::Text);
    }
}
