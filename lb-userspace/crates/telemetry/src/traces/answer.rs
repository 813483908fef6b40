//! What a collector that does not take a trace means: the table of OTLP's specification of what may
//! be sent again.

use std::time::Duration;

/// Longest time that a collector may ask to be left alone.
const LONGEST: Duration = Duration::from_mins(5);
/// Characters of its words that are shown.
const WORDS: usize = 300;

/// Why a trace was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Untaken {
    /// For people, with the collector's own words.
    pub(super) why: String,
    pub(super) then: Then,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It may be sent again, at our own pace.
    Again,
    /// It may be sent again, and nothing before that.
    After(Duration),
    /// It is not to be sent again.
    GiveUp,
}

/// An answer by HTTP that is no success.
pub(super) fn http(status: u16, retry_after: Option<&str>, body: &[u8]) -> Untaken {
    let seconds = retry_after.and_then(|text| text.trim().parse().ok());
    let then = match (status, seconds) {
        (429 | 503, Some(seconds)) => Then::After(Duration::from_secs(seconds).min(LONGEST)),
        (429 | 502 | 503 | 504, _) => Then::Again,
        _ => Then::GiveUp,
    };
    let words = words(body);
    let colon = if words.is_empty() { "" } else { ": " };
    Untaken {
        why: format!("the collector answered with HTTP status {status}{colon}{words}"),
        then,
    }
}

/// An error of the exporter. By gRPC it holds the code's name; anything else is no answer.
pub(super) fn error(text: &str) -> Untaken {
    let code = text.split_once("gRPC code: ").map(|(_, rest)| {
        let end = rest.find(|c: char| !c.is_ascii_alphabetic());
        rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest)
    });
    let then = match code {
        None
        | Some(
            "Cancelled" | "DeadlineExceeded" | "Aborted" | "OutOfRange" | "Unavailable" | "DataLoss"
            // Not the specification's: a connection that failed on its way is one of these.
            | "Unknown" | "Internal"
            // Final without a RetryInfo, which the exporter keeps for itself.
            | "ResourceExhausted",
        ) => Then::Again,
        Some(_) => Then::GiveUp,
    };
    Untaken {
        why: text.to_owned(),
        then,
    }
}

/// What is readable of a body: text, or the message in a `google.rpc.Status`.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let readable = text.chars().map(|c| {
        if c.is_control() || c == '\u{fffd}' {
            ' '
        } else {
            c
        }
    });
    let readable: String = readable.take(WORDS).collect();
    readable.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_sent_again() {
        for status in [429, 502, 503, 504] {
            assert_eq!(http(status, None, b"").then, Then::Again, "{status}");
        }
        for status in [400, 401, 403, 404, 413, 500, 501] {
            assert_eq!(http(status, Some("9"), b"").then, Then::GiveUp, "{status}");
        }
        let seconds = |text| http(503, Some(text), b"").then;
        assert_eq!(seconds("7"), Then::After(Duration::from_secs(7)));
        assert_eq!(seconds("999999999"), Then::After(LONGEST));
        assert_eq!(seconds("soon"), Then::Again);
    }

    #[test]
    fn codes_of_grpc() {
        let of = |code| {
            error(&format!(
                "Operation failed: X export failed with gRPC code: {code}"
            ))
        };
        for code in [
            "Unavailable",
            "Aborted",
            "DataLoss: broken pipe",
            "ResourceExhausted",
        ] {
            assert_eq!(of(code).then, Then::Again, "{code}");
        }
        for code in [
            "InvalidArgument",
            "Unimplemented",
            "PermissionDenied",
            "Unauthenticated",
        ] {
            assert_eq!(of(code).then, Then::GiveUp, "{code}");
        }
        assert_eq!(error("network error").then, Then::Again);
    }

    #[test]
    fn a_body_is_shown_as_far_as_it_is_text() {
        let shown = http(400, None, b"\x08\x03\x12\x0eattribute long").why;
        assert!(shown.ends_with("400: attribute long"), "{shown}");
        assert!(http(400, None, b"\x1b[31m").why.ends_with("[31m"));
        assert!(http(400, None, &[b'x'; 9_000]).why.len() < 400);
    }
}
