//! Sampling by the kernel: perf events, their ring buffers and records; mapped program files.

mod event;
mod registers;
mod rings;

pub use event::{Event, UserStack, read_record};
pub use registers::UserRegisters;
pub use rings::{Record, Rings, Sampling, Scope};
