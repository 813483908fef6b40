//! What the kernel's programs report of a service: binds that were refused or moved, listeners that come and go.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lb_common::{Event, EventKind, GenerationId};

use super::{Context, broken::outlive, registry::Registry, reload::Reloads, shared::SharedState};
use crate::{
    config::{HandOver, ServiceConfig, Undeclared},
    datapath::{Events, PARKING},
    sys::{devices, process, reader::printable, users},
};

/// Hears the kernel's reports.
#[derive(Debug)]
pub(super) struct Reports {
    context: Arc<Context>,
    state: SharedState,
    reloads: Arc<Reloads>,
    /// None while nobody looks after the service. Locked by who has the registry.
    events: Mutex<Option<Events>>,
}

context_of!(Reports);

impl Reports {
    /// Those of a service.
    pub(super) fn new(context: &Arc<Context>, state: &SharedState, reloads: &Arc<Reloads>) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            reloads: Arc::clone(reloads),
            events: Mutex::default(),
        }
    }

    /// Hears each as it comes, until the service is `halted`: a server that opens its listeners anew waits for it.
    pub(super) async fn keep(&self, halted: impl Future<Output = ()>) {
        let opened = Events::open(self.path.pins());
        let Ok(events) = opened.inspect_err(
            |error| tracing::error!(service = self.name(), %error, "failed to open the events"),
        ) else {
            return; // what is looked for once a second is found all the same
        };
        let arrived = events.arrived();
        *self.events() = Some(events);
        let hear = async {
            loop {
                outlive(self.name(), "event handling", self.heard()).await;
                if let Err(error) = arrived.next().await {
                    tracing::error!(service = self.name(), %error, "failed to read the kernel's events");
                    return;
                }
            }
        };
        tokio::select! {
            () = hear => {}
            () = halted => {}
        }
        // The next agent reads them.
        *self.events() = None;
    }

    /// Hears what was reported by now.
    pub(super) async fn heard(&self) {
        self.hear(&mut *self.state.lock().await);
    }

    fn hear(&self, registry: &mut Registry) {
        let arrived = self.events().as_mut().map(Events::take).unwrap_or_default();
        if arrived.is_empty() {
            return;
        }
        let parking = self.cgroup.child(PARKING).id().ok();
        let inherits = self.config.hand_over == HandOver::Inherit;
        for event in &arrived {
            match event.kind {
                EventKind::Idle => {}
                EventKind::Bound => self.reloads.follow_bind(registry, event.cgroup),
                EventKind::Closed => {
                    if let Some(id) = GenerationId::new(event.generation) {
                        self.reloads.follow(registry, id);
                    }
                }
                // Keeper and shim bind as root what they have made over to the service's user.
                EventKind::ForeignUser if inherits || Some(event.cgroup) == parking => {}
                EventKind::BindRefused
                | EventKind::BindRewritten
                | EventKind::ForeignUser
                | EventKind::DeviceRefused
                | EventKind::ProgramRefused
                | EventKind::BindReserved => {
                    note_bind(registry, event, self);
                }
            }
        }
        self.state.ring();
    }

    fn events(&self) -> MutexGuard<'_, Option<Events>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Remembers what `join` did, with the generation whose process it was.
fn note_bind(registry: &mut Registry, event: &Event, context: &Context) {
    let config = &context.config;
    let declared: Vec<String> = config
        .addresses()
        .map(|listen| listen.to_string())
        .collect();
    let asked = SocketAddr::new(event.bound_address(), event.port);
    let who = format!("pid {}, user {}", event.pid, users::user_name(event.uid));
    let who = match process::known_name(event.pid) {
        Some(name) => format!("{name} ({who})"),
        None => who, // it has ended
    };
    let text = match event.kind {
        EventKind::BindRefused => format!(
            "its bind of {asked} was refused, because that address is not declared and would take \
             clients before a promote: {} [{who}]",
            bind_advice(asked, &declared, config)
        ),
        EventKind::BindRewritten => {
            format!("its bind of {asked} was moved to the declared address")
        }
        EventKind::DeviceRefused => format!(
            "its socket at port {} was refused device {} (SO_BINDTODEVICE, or a VRF), because it would take the \
             clients of that device whichever generation is active: make the server listen without a device [{who}]",
            event.port,
            device(event, context),
        ),
        EventKind::BindReserved => format!(
            "a bind of {asked} by a process outside the service was refused, as reserve = true says [{who}]"
        ),
        EventKind::ProgramRefused => format!(
            "a program, or a filter, of its own for the group of {asked} was refused, as foreign_program = \"refuse\" \
             says [{who}]"
        ),
        EventKind::ForeignUser => format!(
            "it bound {asked} as user {} while the group belongs to user {}, which the kernel \
             refuses: set user = \"{0}\" for the service [{who}]",
            users::user_name(event.uid),
            users::user_name(config.identity.uid)
        ),
        EventKind::Idle | EventKind::Bound | EventKind::Closed => return,
    };
    tracing::warn!(pid = event.pid, uid = event.uid, address = %asked, report = text, "a bind of a server was refused or moved");
    let owner = registry
        .all_mut()
        .rev()
        .find(|g| g.cgroup().ids().contains(&event.cgroup));
    if let Some(generation) = owner {
        generation.slots_mut().note_bind(text);
    }
}

/// The device of [`EventKind::DeviceRefused`].
fn device(event: &Event, context: &Context) -> String {
    match event.device() {
        Ok(number) => devices::name_of(&context.netns, number),
        Err(name) if name.starts_with(b"\0") => "\"\"".to_owned(),
        Err(name) => printable(String::from_utf8_lossy(&name).trim_end_matches('\0')),
    }
}

/// What to do about a server that binds what is not declared.
fn bind_advice(asked: SocketAddr, declared: &[String], config: &ServiceConfig) -> String {
    let dual = asked.is_ipv6() && asked.ip().is_unspecified();
    let is_beside = |listen: SocketAddr| listen.is_ipv4() && listen.port() == asked.port();
    if dual && config.addresses().any(|listen| is_beside(listen.address)) {
        let (one, port) = (asked.ip(), asked.port());
        return format!(
            "if this is its only socket, it serves both families (Go, Java and node open such a \
             socket for 0.0.0.0, too): declare listen = [\"{asked}\"]; if it also binds \
             0.0.0.0:{port}, as redis does, declare both: listen = [\"0.0.0.0:{port}\", \
             \"[{one}]:{port}\"]"
        );
    }
    let there = format!("make the server listen on {}", declared.join(" and "));
    match config.undeclared {
        Undeclared::Rewrite => there,
        Undeclared::Refuse => format!("{there}, or set bind = \"rewrite\""),
    }
}
