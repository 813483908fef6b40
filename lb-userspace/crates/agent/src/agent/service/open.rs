//! Opening a service: what is on the host is found, and what is missing is made.

use lb_common::{UNDECLARED_REFUSE, UNDECLARED_REWRITE};

use super::{
    Context, OpenError,
    checks::exec::hooks_cgroup,
    network::{generations_run, is_of_other_network, network},
    parking::Parking,
    parts::Parts,
    ports,
    registry::Registry,
    steering::Steering,
    witness,
};
use crate::{
    config::{ForeignProgram, Places, PoliteMode, ServiceConfig, Undeclared},
    datapath::{Declared, DeclaredDatagrams, Former, Impolite, PARKING, Pins, Polite, ServicePath},
    generation::{hook, keeper::Keeper},
    store::{Journal, Ledger},
    sys::{cgroup::Cgroup, inspect, mounts, netns::Netns},
};

/// A service that is about to be opened.
#[derive(Debug)]
pub(super) struct Opening {
    config: ServiceConfig,
    places: Places,
    cgroup: Cgroup,
    /// Where its keeper is.
    parking: Cgroup,
    pins: Pins,
}

impl Opening {
    /// Below `root`, the agent's cgroup.
    pub(super) fn below(
        root: &Cgroup,
        config: ServiceConfig,
        places: Places,
    ) -> Result<Self, OpenError> {
        let cgroup = root.child(&config.name);
        let parking = cgroup.child(PARKING);
        Cgroup::create(parking.path().to_owned()).map_err(|source| OpenError::Cgroup {
            path: parking.path().to_owned(),
            source,
        })?;
        let pins = Pins::new(&places.bpffs, &config.name);
        Ok(Self {
            config,
            places,
            cgroup,
            parking,
            pins,
        })
    }

    /// Finds what an earlier agent left, which `former` says what may be done to, makes what is missing, and goes on with
    /// what was going on. Clients can connect when it returns.
    pub(super) async fn open(self, journal: &Journal, former: Former) -> Result<Parts, OpenError> {
        // What an agent that was killed left running of its own.
        hook::sweep(&hooks_cgroup(&self.cgroup)).await;
        let ledger = self.ledger(journal).await?;
        let has_parks = self.has_parks().await;
        let netns = network(&self.config, &self.places, &self.cgroup).await?;
        let awaits_adopt =
            ports::must_wait(&self.config, &netns, &self.cgroup, &ledger, has_parks)?;
        let declared = declared(&self.config);
        if self.is_of_others(&declared, &netns).await {
            ports::refuse_living_outside(&ledger)?;
            self.give_up_groups().await?;
        }
        let (path, writer) =
            ServicePath::open_or_create(self.pins, self.cgroup.path(), &declared, former)?;
        if self.config.drain.polite == PoliteMode::On {
            refuse_impolite(path.polite())?;
        }
        let keeper = self.places.keeper(&self.config.name);
        let (keeper, kept) = Keeper::find_or_start(keeper, &self.parking, &netns).await?;
        tracing::info!(
            service = self.config.name,
            pins = ?path.renewal(),
            kept,
            awaits_adopt,
            "service opened"
        );
        let whose = (self.config, self.places);
        let parts = Parts::of(
            Context::new(whose, journal.fenced(), self.cgroup, netns, path),
            Registry::new(Steering::new(writer), awaits_adopt),
            Parking::new(keeper),
        );
        parts.begin(ledger).await?;
        Ok(parts)
    }

    /// What was written down, and what lives without it.
    async fn ledger(&self, journal: &Journal) -> Result<Ledger, OpenError> {
        let mut ledger = Ledger::read(&self.places.ledger(&self.config.name))?;
        witness::refuse_lost(&self.places, &self.cgroup, &self.pins, &ledger)?;
        let mut found_alive = witness::unknown(&self.cgroup, &ledger, &self.pins);
        witness::ask_journal(&mut found_alive, journal, &self.config.name).await;
        witness::remember(&mut ledger, found_alive);
        Ok(ledger)
    }

    /// Whether a keeper holds parking listeners.
    async fn has_parks(&self) -> bool {
        match Keeper::find(&self.places.keeper(&self.config.name)).await {
            Ok(keeper) => keeper.list().await.is_ok_and(|held| !held.is_empty()),
            Err(_none) => false,
        }
    }

    /// Whether the groups that there are have other addresses, another owner or another network.
    async fn is_of_others(&self, declared: &Declared, netns: &Netns) -> bool {
        declared.differs_from(&self.pins)
            || is_of_other_user(&self.places, &self.config).await
            || is_of_other_network(&self.places, &self.config.name, netns).await
    }

    /// The groups are others: start over, but not under running generations.
    async fn give_up_groups(&self) -> Result<(), OpenError> {
        if generations_run(&self.cgroup) {
            return Err(OpenError::GroupsChanged);
        }
        tracing::warn!(
            service = self.config.name,
            "addresses, user or network of the service changed: recreating the parking listeners"
        );
        if let Ok(keeper) = Keeper::find(&self.places.keeper(&self.config.name)).await {
            keeper.quit().await?;
        }
        self.pins.leave_shared()?;
        self.pins.remove()?;
        Ok(())
    }
}

/// The operator insists on asking clients to leave.
fn refuse_impolite(polite: Result<&Polite, &Impolite>) -> Result<(), OpenError> {
    let polite = polite.map_err(|impolite| OpenError::Impolite(impolite.reason().to_owned()))?;
    polite
        .try_out()
        .map_err(|error| OpenError::Impolite(error.to_string()))
}

/// What `join` must know of the service.
pub(super) fn declared(config: &ServiceConfig) -> Declared {
    Declared {
        addresses: config.listen.clone(),
        datagrams: config
            .datagrams
            .as_ref()
            .map(|datagrams| DeclaredDatagrams {
                addresses: datagrams.listen.clone(),
                table: datagrams.table,
                idle: datagrams.kept_for(),
                quic: datagrams.quic(),
            }),
        uid: config.identity.uid,
        undeclared: match config.undeclared {
            Undeclared::Refuse => UNDECLARED_REFUSE,
            Undeclared::Rewrite => UNDECLARED_REWRITE,
        },
        steered_by: (config.foreign_program == ForeignProgram::Refuse)
            .then(own_cgroup)
            .flatten(),
    }
}

/// The cgroup this agent runs in.
fn own_cgroup() -> Option<u64> {
    let own = inspect::inspect(std::process::id()).ok().flatten();
    let own = own.and_then(|own| {
        let below = own.cgroup.strip_prefix("/").unwrap_or(&own.cgroup);
        Cgroup::at(mounts::cgroup2().ok()?.join(below)).id().ok()
    });
    if own.is_none() {
        tracing::warn!("failed to find the agent's own cgroup; foreign programs are not refused");
    }
    own
}

/// Whether the parking listeners belong to another user than the configured one.
pub(super) async fn is_of_other_user(places: &Places, config: &ServiceConfig) -> bool {
    let held = match Keeper::find(&places.keeper(&config.name)).await {
        Ok(keeper) => keeper.list().await,
        Err(error) => Err(error),
    };
    held.is_ok_and(|held| held.iter().any(|p| p.group_key.uid != config.identity.uid))
}
