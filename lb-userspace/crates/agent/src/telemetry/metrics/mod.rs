//! Metrics: one table says what there is (`table`), everything is computed at the scrape.
//!
//! To add a metric: one row in the table, and one function in `collect` that gives its samples
//! from what was [observed](crate::agent::observed). Then `HOTLB_BLESS=1 cargo test -p hotlb-agent
//! metrics` writes `docs/user/observe/metrics.md` anew.

mod bounded;
mod collect;
mod encode;
mod exemplars;
mod format;
mod native;
mod row;
mod serve;
mod table;
mod udp;

#[cfg(test)]
mod docs;

pub(crate) use self::serve::{answer, serve};
pub use self::{encode::render, format::Format};
