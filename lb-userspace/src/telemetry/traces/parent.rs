//! W3C Trace Context: a span of somebody else's, as `traceparent` writes it.

use std::{collections::HashMap, fmt, str::FromStr};

use opentelemetry::{
    propagation::TextMapPropagator as _,
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use thiserror::Error;

/// The name of the header, and in capitals of the variable.
pub const HEADER: &str = "traceparent";

/// A span of somebody else's.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceParent(SpanContext);

/// What was given is no [`TraceParent`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "\"{}\" is not a traceparent; W3C Trace Context writes 00-TRACE-SPAN-FLAGS with 32, 16 and 2 \
     hexadecimal digits, TRACE and SPAN not all 0",
    .0.escape_debug()
)]
pub struct NoTraceParent(String);

impl TraceParent {
    /// Its trace: 32 hexadecimal digits.
    pub(super) fn trace(&self) -> String {
        self.0.trace_id().to_string()
    }

    /// Itself: 16 hexadecimal digits.
    pub(super) fn span(&self) -> String {
        self.0.span_id().to_string()
    }

    /// Whether whoever began the trace wants it recorded.
    pub(super) fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let carrier = HashMap::from([(HEADER.to_owned(), text.trim().to_owned())]);
        let context = TraceContextPropagator::new().extract(&carrier);
        let span = context.span().span_context().clone();
        if span.is_valid() {
            Ok(Self(span))
        } else {
            Err(NoTraceParent(text.to_owned()))
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled());
        write!(f, "00-{}-{}-{flags:02x}", self.trace(), self.span())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_is_written() {
        for text in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        ] {
            let parent: TraceParent = text.parse().unwrap();
            assert_eq!(parent.to_string(), text);
        }
        for text in [
            "",
            "here",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            text.parse::<TraceParent>().unwrap_err();
        }
    }
}
