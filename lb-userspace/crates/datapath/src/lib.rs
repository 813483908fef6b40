//! The kernel side as the agent sees it: loads the eBPF object, owns its maps and pins, puts
//! listeners into slots, moves the steering word, reads the counters.
//!
//! The only crate that uses aya. Knows sockets, slots and words; knows nothing of processes,
//! probes or rollouts. It depends on `hotlb-sys`, and on `hotlb-values` for what it reads.

#![forbid(unsafe_code)]

mod counting;
mod datagrams;
mod declared;
mod definitions;
mod error;
mod events;
mod flows;
mod group;
mod guard;
mod kernel_fields;
mod latency;
mod listeners;
mod live;
mod loaders;
mod loading;
mod loads;
mod make;
mod mirror;
mod object;
mod owners;
mod pins;
mod polite;
mod recent;
mod refused;
mod registers;
mod reload;
mod renew;
mod reserve;
mod samples;
mod service;
mod verified;
mod waits;
mod watched;
mod word_writer;

pub mod cost;
pub mod features;
pub mod yardstick;

pub use declared::{Declared, DeclaredDatagrams};
pub use error::DatapathError;
pub use events::Events;
pub use flows::{DatagramCounts, FlowEntry, Flows};
pub use group::{Group, Registered};
pub use guard::{Deciding, deciding, deciding_now};
pub use hotlb_values::{ConnectionCounts, Histogram, Latencies, Losses, SHORTEST, SteeringCounts};
pub use kernel_fields::knows_losses;
pub use loading::Batch;
pub use make::PARKING;
pub use mirror::{Mended, forget_all, mend, why_gone};
pub use pins::{Pins, STAGING};
pub use polite::{Asked, Impolite, Polite, PoliteCounts, Way};
pub use renew::{Former, InForce, Renewal, in_force, own_object};
pub use samples::{Alike, Samples, Use};
pub use service::{ServicePath, TicketGuard};
pub use waits::{Found, Totals, Waits};
pub use watched::give_up_shared;
pub use word_writer::WordWriter;
