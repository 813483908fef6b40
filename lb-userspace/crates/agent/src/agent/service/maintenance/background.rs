//! What goes on beside all else, in tasks that may be cut at any moment.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::{
    Context, broken::kept_up, foreign_programs::ForeignProgramDetector, hung::HangDetector, outlet,
    parking::Parking, ports::strays::StrayDetector, profile::Profiler, reload::Reloads,
    shared::SharedState,
};

/// The tasks of a service that take long now and then.
#[derive(Debug)]
pub(in crate::agent::service) struct Background {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
    foreign_programs: Arc<ForeignProgramDetector>,
    strays: Arc<StrayDetector>,
    profiler: Arc<Profiler>,
    reloads: Arc<Reloads>,
}

impl Background {
    /// Those of a service.
    pub(in crate::agent::service) fn new(
        context: &Arc<Context>,
        state: &SharedState,
        parking: &Arc<Parking>,
        (foreign_programs, strays): (&Arc<ForeignProgramDetector>, &Arc<StrayDetector>),
        profiler: &Arc<Profiler>,
        reloads: &Arc<Reloads>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
            foreign_programs: Arc::clone(foreign_programs),
            strays: Arc::clone(strays),
            profiler: Arc::clone(profiler),
            reloads: Arc::clone(reloads),
        }
    }

    /// Begins all of them.
    pub(super) fn begin(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let looked = Arc::clone(self);
        tasks.spawn(async move {
            kept_up("foreign programs", || {
                looked
                    .foreign_programs
                    .keep(&looked.context, &looked.state, &looked.parking)
            })
            .await;
        });
        let searched = Arc::clone(self);
        tasks.spawn(async move {
            kept_up("stray sockets", || {
                searched.strays.keep(&searched.context, &searched.state)
            })
            .await;
        });
        let profiled = Arc::clone(self);
        tasks.spawn(async move {
            kept_up("profiling", || {
                profiled.profiler.keep(&profiled.context, &profiled.state)
            })
            .await;
        });
        let detector = HangDetector::new(Arc::clone(&self.context), self.state.clone());
        tasks.spawn(async move {
            kept_up("hang detection", || detector.keep()).await;
        });
        let released = Arc::clone(self);
        tasks.spawn(async move {
            kept_up("release of parked clients", || {
                released
                    .parking
                    .keep_releasing(&released.context, &released.state)
            })
            .await;
        });
        let written = Arc::clone(self);
        tasks.spawn(async move {
            kept_up("output", || outlet::keep(&written.context, &written.state)).await;
        });
        tasks.spawn(Arc::clone(&self.reloads).keep_beating());
        tasks
    }
}
