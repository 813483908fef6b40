//! Whether hotlb's programs still decide about the service's groups. Anybody with the rights may
//! attach another one (nginx's `quic_bpf` does, and QUIC libraries do), and no call says so.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{Service, books::Books};
use crate::{
    config::ForeignProgram,
    datapath::{Deciding, Group, deciding, deciding_now},
    generation::listeners,
    sys::sock_diag::{self, Protocol},
};

/// How often it is looked who decides.
const EACH: Duration = Duration::from_secs(1);

/// What was found wrong when the groups were last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Usurped {
    /// The program that decides about the group at an address, as the configuration writes it; 0
    /// for none.
    pub(super) groups: BTreeMap<String, u32>,
    /// How often hotlb's program was put back.
    pub(super) restored: u64,
    /// Why nobody can look.
    pub(super) blind: Option<String>,
}

impl Usurped {
    /// What is not as it should be with who decides.
    pub(super) fn warnings(&self, warnings: &mut Vec<String>) {
        for (address, program) in &self.groups {
            let whose = match *program {
                0 => "no program decides".to_owned(),
                u32::MAX => "another classic filter decides".to_owned(),
                id => format!("another program (id {id}) decides"),
            };
            warnings.push(format!(
                "{address}: {whose} which generation gets new clients, not hotlb; end the process \
                 that attached it, or set foreign_program = \"restore\""
            ));
        }
        if let Some(reason) = &self.blind {
            warnings.push(format!(
                "programs that others attach to the service's groups cannot be detected: {reason}"
            ));
        }
        if self.restored > 0 {
            warnings.push(format!(
                "hotlb's program was restored {} times in place of another one",
                self.restored
            ));
        }
    }
}

impl Service {
    /// Looks once a second who decides, for ever.
    pub(super) async fn keep_guard(self: Arc<Self>) {
        let mut each = interval(EACH);
        each.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            each.tick().await;
            self.guard().await;
        }
    }

    /// Looks who decides; puts hotlb's program back if the service says so.
    async fn guard(&self) {
        let netns = self.netns.clone();
        let found = tokio::task::spawn_blocking(move || deciding(&netns)).await;
        let found = found.unwrap_or_else(|error| Err(error.to_string()));
        let mut books = self.books.lock().await;
        if books.is_ending() || books.awaits_adopt {
            return;
        }
        let before = books.usurped.clone();
        match found {
            Ok(deciding) => {
                books.usurped.blind = None;
                // A group may have been made since that look.
                let now = if self.is_usurped(&deciding) {
                    deciding_now(&self.netns).unwrap_or(deciding)
                } else {
                    deciding
                };
                self.judge(&mut books, &now);
            }
            Err(reason) => books.usurped.blind = Some(reason),
        }
        for (address, program) in &books.usurped.groups {
            if before.groups.get(address) != Some(program) {
                tracing::error!(
                    service = self.name(),
                    address,
                    program,
                    "another program is attached to the group in place of hotlb's"
                );
            }
        }
    }

    fn is_usurped(&self, deciding: &Deciding) -> bool {
        let mut groups = self.path.all_groups();
        groups.any(|group| usurper(group, deciding).is_some())
    }

    fn judge(&self, books: &mut Books, deciding: &Deciding) {
        let mut groups = BTreeMap::new();
        let tcp = self.path.groups().iter().map(|group| (false, group));
        let udp = self
            .path
            .datagram_groups()
            .iter()
            .map(|group| (true, group));
        for (udp, group) in tcp.chain(udp) {
            let Some(program) = usurper(group, deciding) else {
                continue;
            };
            if self.config.foreign_program == ForeignProgram::Restore
                && self.restore_program(books, udp, group)
            {
                books.usurped.restored += 1;
                tracing::warn!(
                    service = self.name(),
                    address = %group.address(),
                    program,
                    "restored hotlb's program in place of another one"
                );
                continue;
            }
            let scheme = if udp { "udp://" } else { "" };
            groups.insert(format!("{scheme}{}", group.address()), program);
        }
        books.usurped.groups = groups;
    }

    fn restore_program(&self, books: &Books, udp: bool, group: &Group) -> bool {
        let restored = if udp {
            self.attach_datagrams(books, group)
        } else {
            let parked = books.parks.at(group.address());
            parked.map(|parked| {
                let socket = self
                    .parking
                    .keeper()
                    .take(parked)
                    .map_err(|error| error.to_string())?;
                group.attach(socket).map_err(|error| error.to_string())
            })
        };
        match restored {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::error!(
                    service = self.name(),
                    error,
                    "failed to restore hotlb's program"
                );
                false
            }
            None => false,
        }
    }

    /// Attaches through any socket of the group.
    fn attach_datagrams(&self, books: &Books, group: &Group) -> Option<Result<(), String>> {
        let all = sock_diag::waiting(&self.netns, Protocol::Udp).unwrap_or_default();
        let cookies: Vec<u64> = group.cookies().ok()?;
        let members: Vec<_> = all
            .into_iter()
            .filter(|socket| cookies.contains(&socket.cookie))
            .collect();
        let living = books.generations.iter().filter(|g| g.state.is_live());
        let mut sockets = living.flat_map(|g| listeners::take(&g.cgroup, &members));
        let (_, socket) = sockets.next()?;
        Some(group.attach(socket).map_err(|error| error.to_string()))
    }
}

/// The program that decides about the group although it is not hotlb's; `None` if hotlb's does, or
/// the group has no socket that is known.
fn usurper(group: &Group, deciding: &Deciding) -> Option<u32> {
    let own = group.program_id().ok()?;
    let cookies = group.cookies().unwrap_or_default();
    let found = cookies.iter().find_map(|cookie| deciding.get(cookie))?;
    (*found != own).then_some(*found)
}
