//! In which form a scrape is answered.

/// A form of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.0, which Prometheus asks for.
    #[default]
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus, which `promtool check metrics` reads.
    Text,
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::OpenMetrics, Self::Text];

    /// The form that a client accepts: plain text only if it asks for that and not for
    /// `OpenMetrics`.
    pub fn accepted(accept: Option<&str>) -> Self {
        let names = |kind| accept.is_some_and(|accept| accept.contains(kind));
        if names("text/plain") && !names("application/openmetrics-text") {
            Self::Text
        } else {
            Self::OpenMetrics
        }
    }

    /// The value of the header Content-Type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_insist_on_plain_text_gets_openmetrics() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
        for accept in [None, Some("*/*"), Some(prometheus)] {
            assert_eq!(Format::accepted(accept), Format::OpenMetrics, "{accept:?}");
        }
        for format in Format::ALL {
            assert_eq!(Format::accepted(Some(format.content_type())), format);
        }
    }
}
