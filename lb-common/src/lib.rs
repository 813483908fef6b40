//! The contract between hotlb's kernel programs and its agent.
//!
//! Everything both sides must agree on lives here and nowhere else: the ids, the steering word,
//! the layout of each map's values, the names of maps and programs, and the choice itself as a
//! pure function. The crate knows neither aya nor the kernel; it compiles for the host, where it
//! is tested exhaustively, and for `bpfel-unknown-none`, where `lb-ebpf` runs it.
//!
//! Values are plain integers or arrays of them, so that the agent can hand them to the kernel
//! without a line of `unsafe`.
#![no_std]
#![forbid(unsafe_code)]
#![expect(
    clippy::inline_always,
    reason = "the verifier sees one function; a call would cost and be checked by itself"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "fields are cut out of words on purpose, and tests prove the round trip"
)]

mod bind;
mod choose;
mod connections;
mod event;
mod exit;
mod flow;
mod generation;
mod latency;
mod loss;
mod polite;

mod seat;
mod seat_set;
mod segments;
mod ticket;
mod word;
mod workers;

pub mod head;
pub mod names;
pub mod recent;
pub mod reservation;
pub mod sample;
pub mod steering;
pub mod wait;
pub mod watched;

pub use bind::{BindRule, FreshKey, ListenKey, UNDECLARED_REFUSE, UNDECLARED_REWRITE, port_key};
pub use choose::{Group, NEIGHBOURS, Request, choose, client_hash};
pub use connections::{CONNECTION_CELLS, ConnectionCell};
pub use event::{EVENT_WORDS, Event, EventKind};
pub use exit::{EXIT_CELLS, Exit};
pub use flow::{
    Entry, FLOW_CELLS, FLOW_CLOSED, FLOW_CLOSED_UPPER, FLOW_COUNTS, FLOW_EVICTED, FLOW_IDLE,
    FLOW_QUIC, FLOW_REFRESH, FLOW_REMOVED, FLOW_WORDS, Flow, FlowExit, FlowKey, FlowRules, Steered,
    choose_datagram, first, nanoseconds, quic, ticks,
};
pub use generation::{GenerationId, SEATS};
pub use latency::{BUCKETS, HISTOGRAM_WORDS, LATENCIES, LOWEST, Latency, bucket, bucket_end};
pub use loss::{Ending, Loss};
pub use polite::{Conversation, LEAST_REQUEST, POLITE_CELLS, PoliteCell};
pub use seat::SeatRow;
pub use seat_set::SeatSet;
pub use segments::{Begun, Segment, Segments, Sender};
pub use ticket::TicketKey;
pub use word::{Share, SteeringWord};
pub use workers::{ALL_OF, Workers};

/// Layout version of every shared map. It grows when the meaning or size of a value changes, and
/// when an earlier agent must not act beside the programs of this one.
pub const ABI_VERSION: u32 = 6;

/// The first layout version that an agent brings to its own.
pub const EARLIEST_ABI: u32 = 5;

/// Connections that can be asked to leave at the same time.
pub const ASKED: usize = 1 << 16;

/// Connections that have moved and are open at the same time, a service. Of more the new generation
/// is not known: they are counted as their former one's.
pub const MOVES: usize = 1 << 14;

/// Listeners that may be open without a slot at the same time, a service: one a generation and
/// address.
pub const FRESH: usize = 1 << 10;

/// Slots in one reuseport group's socket array.
pub const SLOTS: u32 = 4096;

/// The slot of the parking listener; the slots of generations start behind it.
pub const PARKING_SLOT: u32 = 0;
