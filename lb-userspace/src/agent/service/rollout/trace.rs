//! Names for traces, as W3C Trace Context writes them.

use std::hash::{BuildHasher as _, RandomState};

/// A trace of its own: 32 hexadecimal digits, not all zero.
pub(super) fn id() -> String {
    format!("{:016x}{:016x}", random() | 1, random())
}

/// The `traceparent` a hook gets: a span of this trace.
pub(super) fn parent(trace: &str) -> String {
    format!("00-{trace}-{:016x}-01", random() | 1)
}

/// Unlike each time: the standard library seeds its hashers from the system's randomness.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_w3c_traceparent() {
        let parent = parent(&id());
        let fields: Vec<&str> = parent.split('-').collect();
        let lengths: Vec<usize> = fields.iter().map(|field| field.len()).collect();
        assert_eq!(lengths, [2, 32, 16, 2]);
        assert_ne!(id(), id());
    }
}
