//! Anomaly detection over one-second windows of each generation, and the incident record.
//!
//! The first stage is cheap and always on: each second the agent reads what the kernel programs
//! counted anyway ([`Reading`]), takes the difference ([`Window`]) and gives it a score from 0 to 1
//! ([`Screen`]): against windows of the generation's own past with a like load, and against the
//! generation that serves beside it. Few of them pass the [`Gate`]; those alone have the second
//! stage look closely, and become an [`Incident`].
//!
//! Everything here is pure: no IO, no clock. `agent::service` reads, captures and stores.

mod gate;
mod past;
mod record;
mod score;
mod screen;
mod signal;
mod statistics;
#[cfg(test)]
mod tests;
mod window;
mod words;

pub use gate::{Gate, Held, Limits};
pub use record::{Incident, IncidentId, NoIncidentId, Phase, SlowConnection, Summary};
pub use score::Score;
pub use screen::{Screen, Screened, Verdict};
pub use window::{Quantiles, Reading, Window};
