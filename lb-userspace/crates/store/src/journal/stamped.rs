//! Records with the moment they tell of: what is written together need not have happened at once.

use std::time::Instant;

use super::Record;
use crate::clock;

/// A record, and when it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    /// What.
    pub record: Record,
    /// When.
    pub at: Instant,
}

impl From<Record> for Stamped {
    /// It happens now.
    fn from(record: Record) -> Self {
        Self {
            record,
            at: clock::now(),
        }
    }
}
