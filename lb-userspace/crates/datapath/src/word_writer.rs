//! Storing the steering word.

use std::sync::Arc;

use hotlb_sys::mapped::MappedCells;
use lb_common::{SteeringWord, steering};

/// Stores a service's steering word. There is one for each service, and it cannot be cloned: whoever
/// holds it alone decides who gets new clients.
#[derive(Debug)]
pub struct WordWriter {
    row: Arc<MappedCells>,
}

impl WordWriter {
    pub(super) const fn new(row: Arc<MappedCells>) -> Self {
        Self { row }
    }

    /// The word as it is.
    pub fn word(&self) -> SteeringWord {
        SteeringWord::from_bits(self.row.load(steering::WORD))
    }

    /// Stores the word with the next epoch: from here on every group of the service decides by it.
    /// Readers see the former word or this one, each whole.
    pub fn store(&mut self, word: SteeringWord) -> SteeringWord {
        let mut stored = word;
        self.row.update(steering::WORD, |former| {
            let epoch = SteeringWord::from_bits(former).epoch;
            stored = SteeringWord { epoch, ..word }.next_epoch();
            stored.to_bits()
        });
        stored
    }
}
