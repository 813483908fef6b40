//! Generations that have ended and are started again.

use std::sync::Arc;

use lb_common::GenerationId;

use super::{
    super::{AdoptError, Reporter, VerbError, checks::still_alive, pace::Pace},
    Deploys,
};
use crate::{
    api::wire::DeployRequest,
    clock::Deadline,
    generation::{launch, unit},
    store::Origin,
};

impl Deploys {
    /// Starts the command of a generation that has ended again, under its name.
    pub(in crate::agent::service) async fn revive(
        self: &Arc<Self>,
        id: GenerationId,
        reporter: &Reporter,
    ) -> Result<GenerationId, VerbError> {
        if let Some(id) = self.revive_outside(id, reporter).await? {
            return Ok(id);
        }
        let request = {
            let registry = self.state.lock().await;
            let generation = registry.get(id).ok_or_else(|| {
                VerbError::NothingBefore("the generation before is forgotten".to_owned())
            })?;
            DeployRequest {
                generation: Some(generation.name().to_owned()),
                command: generation.command().words().to_vec(),
                cwd: generation.command().cwd().to_owned(),
                env: generation.command().env().clone(),
                timeout_ms: None,
            }
        };
        self.lives.end(id).await;
        let name = request.generation.clone().unwrap_or_default();
        // Its name is free for whom a rollback leads to.
        let previous = self
            .state
            .change(|registry| registry.steering_mut().set_previous(Some(id)))
            .await;
        let started = self.deploy_again(request, reporter, true).await;
        if started.is_err() {
            self.state
                .change(|registry| registry.steering_mut().set_previous(previous))
                .await;
        }
        started?;
        self.lives.find(&name).await
    }

    /// A rollback to a generation that has ended and that the agent did not start: `None` if the
    /// agent can start its command all the same.
    pub(super) async fn revive_outside(
        self: &Arc<Self>,
        id: GenerationId,
        reporter: &Reporter,
    ) -> Result<Option<GenerationId>, VerbError> {
        let (origin, unit, name, command, cwd, has_roots) = {
            let registry = self.state.lock().await;
            let Some(g) = registry.get(id) else {
                return Ok(None);
            };
            let provenance = g.provenance();
            let (name, command) = (g.name().to_owned(), g.command().words().to_vec());
            (
                provenance.origin,
                provenance.unit.clone(),
                name,
                command,
                g.command().cwd().to_owned(),
                g.command().roots().is_some(),
            )
        };
        match origin {
            Origin::Launched => Ok(None),
            Origin::Adopted => match launch::find(&command, &cwd) {
                Ok(_) => Ok(None),
                Err(_unknown) if has_roots => Ok(None),
                Err(_unknown) => Err(AdoptError::CommandUnknown {
                    generation: name,
                    shown: command.join(" "),
                }
                .into()),
            },
            Origin::Exec => {
                self.lives.end(id).await;
                self.restart_unit(unit, name, &command, reporter)
                    .await
                    .map(Some)
            }
        }
    }

    /// Has systemd start the service again that the generation is, and waits until it is ready.
    async fn restart_unit(
        &self,
        unit: Option<String>,
        name: String,
        command: &[String],
        reporter: &Reporter,
    ) -> Result<GenerationId, VerbError> {
        let elsewhere = |why: String| VerbError::StartedElsewhere {
            generation: name.clone(),
            command: command.join(" "),
            why,
        };
        let Some(unit) = unit.filter(|_| unit::systemd_runs()) else {
            return Err(elsewhere(String::new()));
        };
        reporter.step(format!("systemctl start {unit}"));
        unit::start(&unit)
            .await
            .map_err(|error| elsewhere(format!(" ({error})")))?;
        let mut pace = Pace::until(Deadline::after(self.config.ready_timeout));
        loop {
            {
                let registry = self.state.lock().await;
                if let Some(found) = registry.by_name(&name)
                    && found.state().can_serve()
                    && still_alive(&registry, found.id()).is_ok()
                {
                    return Ok(found.id());
                }
            }
            if !self.state.look_again(&mut pace).await {
                return Err(elsewhere(format!(
                    " ({unit} was started, but is not ready)"
                )));
            }
        }
    }
}
