//! Metrics: one table says what there is (`table`), everything is computed at the scrape.
//!
//! To add a metric: one row in the table, and one function in `collect` that gives its samples
//! from what was [observed](crate::observed). Then `HOTLB_BLESS=1 cargo test -p hotlb-telemetry
//! metrics` writes `docs/user/observe/metrics.md` anew.

mod collect;
mod encode;
mod exemplars;
mod format;
mod native;
mod row;
mod table;
mod udp;

#[cfg(test)]
mod docs;

pub use self::{encode::render, format::Format};
