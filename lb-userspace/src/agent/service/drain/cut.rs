//! stub
use std::time::Duration;

use lb_common::GenerationId;

use super::super::Service;

impl Service {
    pub(super) async fn cut(&self, id: GenerationId, _spare: bool) -> u64 {
        self.path.live(Some(id))
    }

    pub(super) async fn left(&self, _id: GenerationId, _f: impl Fn(Option<Duration>) -> bool) -> Vec<u64> {
        Vec::new()
    }

    pub(super) async fn ask_to_leave(&self, _id: GenerationId) {}
}
