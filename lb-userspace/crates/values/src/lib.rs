//! What is measured, as plain values: connections, latencies, profiles.
//!
//! The kernel programs and the sampling helper fill them, the API carries them, the command line
//! shows them. Pure: beside the contract with the kernel programs (`lb-common`) it takes one enum
//! from `hotlb-sys`.

#![forbid(unsafe_code)]

mod counts;
mod histogram;
mod latencies;

pub mod profile;

pub use counts::{ConnectionCounts, Losses, SteeringCounts};
pub use histogram::{Histogram, SHORTEST};
pub use latencies::Latencies;
