//! W3C Trace Context: a span of somebody else's, as `traceparent` writes it.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The name of the header, and in capitals of the variable.
pub const HEADER: &str = "traceparent";

/// The flag that says so.
const SAMPLED: u8 = 1;

/// A span of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// 32 hexadecimal digits.
    trace: String,
    /// 16 hexadecimal digits.
    span: String,
    is_sampled: bool,
}

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
    pub fn trace(&self) -> &str {
        &self.trace
    }

    /// Itself: 16 hexadecimal digits.
    pub fn span(&self) -> &str {
        &self.span
    }

    /// Whether whoever began the trace wants it recorded.
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// `None` for what is none.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = digits(parts.next()?, 2)?;
        let trace = digits(parts.next()?, 32)?;
        let span = digits(parts.next()?, 16)?;
        let flags = u8::from_str_radix(digits(parts.next()?, 2)?, 16).ok()?;
        // A later version may say more; ff is none.
        if version == "ff" || version == "00" && parts.next().is_some() {
            return None;
        }
        if [trace, span]
            .iter()
            .any(|id| id.bytes().all(|digit| digit == b'0'))
        {
            return None;
        }
        Some(Self {
            trace: trace.to_owned(),
            span: span.to_owned(),
            is_sampled: flags & SAMPLED != 0,
        })
    }
}

/// The text if it is so many hexadecimal digits, which the standard writes in small letters.
fn digits(text: &str, count: usize) -> Option<&str> {
    let is_digit = |digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == count && text.bytes().all(is_digit)).then_some(text)
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        Self::read(text.trim()).ok_or_else(|| NoTraceParent(text.to_owned()))
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace,
            span,
            is_sampled,
        } = self;
        write!(f, "00-{trace}-{span}-{:02x}", u8::from(*is_sampled))
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
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            text.parse::<TraceParent>().unwrap_err();
        }
    }
}
