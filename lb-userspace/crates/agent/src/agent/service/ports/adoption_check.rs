//! What a running server must be like to be adopted: its listeners are the service's, all of
//! them, they share their ports, and nobody else listens there.

use std::{
    collections::{BTreeMap, HashSet},
    os::fd::OwnedFd,
};

use super::{
    super::{
        AdoptError, NotSharing, Unbound, VerbError, datagrams::datagram_fit, ending::signal_of,
        registry::Registry, slots::stray,
    },
    ForeignPorts,
};
use crate::{
    generation::{
        adoptee::Adoptee,
        fit::{self, Misfit},
        listeners,
    },
    sys::{
        listener::{self, GroupKey},
        process,
        sock_diag::{self, Protocol, Waiting},
    },
};

/// Duplicates of a server's listeners, by group. Give them up soon: a duplicate keeps a dead
/// server's queue alive.
#[derive(Debug)]
pub(in crate::agent::service) struct AdoptionCheck {
    listeners: Vec<(GroupKey, Sockets)>,
    datagrams: Vec<Sockets>,
}

/// The sockets of a group, by cookie.
pub(in crate::agent::service) type Sockets = BTreeMap<u64, OwnedFd>;

impl AdoptionCheck {
    /// What a parking listener beside them must be like, by group.
    pub(in crate::agent::service) fn group_keys(&self) -> Vec<GroupKey> {
        self.listeners
            .iter()
            .map(|(group_key, _)| *group_key)
            .collect()
    }

    /// The listeners, by group.
    pub(in crate::agent::service) fn listeners(&self) -> impl Iterator<Item = &Sockets> {
        self.listeners.iter().map(|(_, sockets)| sockets)
    }

    /// The UDP sockets, by group.
    pub(in crate::agent::service) fn datagrams(&self) -> impl Iterator<Item = &Sockets> {
        self.datagrams.iter()
    }
}

impl ForeignPorts {
    /// The listeners of a server that is to be adopted.
    ///
    /// # Errors
    ///
    /// [`AdoptError`] with what does not fit.
    pub(in crate::agent::service) fn adoption_check(
        &self,
        registry: &Registry,
        adoptee: &Adoptee,
        name: &str,
    ) -> Result<AdoptionCheck, VerbError> {
        let found = listeners::find(&self.netns, &adoptee.cgroup, Protocol::Tcp)?;
        self.refuse_made_elsewhere(adoptee)?;
        let group_keys = if registry.awaits_adopt() {
            self.group_keys_of(&found)
        } else {
            registry.parks().group_keys()
        };
        let misfit = |misfit| AdoptError::Misfit {
            who: adoptee.who.clone(),
            misfit,
        };
        let members = fit::fit(&group_keys, &found);
        self.refuse_undeclared(adoptee, &found)?;
        if let Some(stray) = stray(self, &adoptee.cgroup, &found)? {
            return Err(misfit(stray).into());
        }
        let members = members.map_err(misfit)?;
        let mut listeners = Vec::new();
        for (group_key, members) in group_keys.into_iter().zip(members) {
            listeners.push((group_key, self.take_shared(adoptee, &members, name)?));
        }
        let datagrams = self.claim_datagrams(adoptee, name)?;
        self.refuse_others(registry, adoptee)?;
        Ok(AdoptionCheck {
            listeners,
            datagrams,
        })
    }

    fn claim_datagrams(&self, adoptee: &Adoptee, name: &str) -> Result<Vec<Sockets>, VerbError> {
        let who = || adoptee.who.clone();
        let fit = datagram_fit(self, &adoptee.cgroup)?;
        let groups = fit.map_err(|misfit| match misfit {
            Misfit::Missing { address, found, .. } => AdoptError::NoDatagrams {
                who: who(),
                unbound: Unbound::new(address, found),
            },
            misfit => AdoptError::Misfit { who: who(), misfit },
        })?;
        let take = |members: &Vec<Waiting>| self.take_shared(adoptee, members, name);
        groups.iter().map(take).collect()
    }

    /// Duplicates of a group's sockets, which all have to share it.
    fn take_shared(
        &self,
        adoptee: &Adoptee,
        members: &[Waiting],
        name: &str,
    ) -> Result<Sockets, VerbError> {
        let sockets = listeners::take(&adoptee.cgroup, members);
        if sockets.len() != members.len() {
            return Err(AdoptError::Changed(adoptee.who.clone()).into());
        }
        match members.first() {
            Some(first) if !all_share(&sockets)? => {
                Err(self.not_sharing(adoptee, first, name)?.into())
            }
            _ => Ok(sockets),
        }
    }

    /// The groups as the server has made them. Which kind of IPv6 socket is its own choice.
    fn group_keys_of(&self, found: &[Waiting]) -> Vec<GroupKey> {
        let addresses = self.config.listen.iter();
        addresses
            .map(|&address| {
                let usual = self.config.group_key(address);
                let here = found.iter().find(|w| w.address == address);
                GroupKey {
                    v6only: here.map_or(usual.v6only, |w| w.v6only),
                    ..usual
                }
            })
            .collect()
    }

    fn refuse_made_elsewhere(&self, adoptee: &Adoptee) -> Result<(), VerbError> {
        let ids: HashSet<u64> = adoptee.cgroup.ids().into_iter().collect();
        let holders = process::socket_holders(adoptee.cgroup.pids());
        let elsewhere = sock_diag::waiting(&self.netns, Protocol::Tcp)?
            .into_iter()
            .find(|w| {
                let made_here = w.cgroup.is_some_and(|id| ids.contains(&id));
                !made_here && holders.contains_key(&w.inode) && self.takes_clients(w)
            });
        match elsewhere {
            Some(socket) => Err(AdoptError::MadeElsewhere {
                who: adoptee.who.clone(),
                address: socket.address,
            }
            .into()),
            None => Ok(()),
        }
    }

    fn takes_clients(&self, socket: &Waiting) -> bool {
        let mut listen = self.config.listen.iter();
        listen.any(|&address| fit::overlaps(socket.address, address))
    }

    /// A listener on a more specific address gets its clients whatever `steer` says.
    fn refuse_undeclared(&self, adoptee: &Adoptee, found: &[Waiting]) -> Result<(), AdoptError> {
        let undeclared = found
            .iter()
            .find(|w| self.takes_clients(w) && !self.config.listen.contains(&w.address));
        match undeclared {
            Some(socket) => Err(AdoptError::Undeclared {
                who: adoptee.who.clone(),
                found: socket.address,
            }),
            None => Ok(()),
        }
    }

    fn refuse_others(&self, registry: &Registry, adoptee: &Adoptee) -> Result<(), VerbError> {
        let own: HashSet<u64> = adoptee.cgroup.ids().into_iter().collect();
        let held = self.held(&registry.cgroups())?;
        let other = held
            .iter()
            .find(|held| !held.socket.cgroup.is_some_and(|id| own.contains(&id)));
        match other {
            Some(other) => Err(AdoptError::Others {
                address: other.declared,
                others: other.describe(),
            }
            .into()),
            None => Ok(()),
        }
    }

    /// What the one necessary restart costs, and how it is done.
    fn not_sharing(
        &self,
        adoptee: &Adoptee,
        socket: &Waiting,
        name: &str,
    ) -> Result<AdoptError, VerbError> {
        let process = &adoptee.process;
        let stop = match process.unit() {
            Some(unit) => format!("systemctl stop {unit}"),
            None => format!(
                "kill -s {signal} {pid} && tail --pid={pid} -f /dev/null",
                signal = signal_of(self, process.pid),
                pid = process.pid
            ),
        };
        Ok(AdoptError::NotSharing(Box::new(NotSharing {
            who: adoptee.who.clone(),
            address: socket.address,
            connections: self.open_connections(&adoptee.cgroup)?.len(),
            stop,
            service: self.name().to_owned(),
            generation: name.to_owned(),
            command: typed(&process.command),
        })))
    }
}

fn all_share(sockets: &Sockets) -> Result<bool, VerbError> {
    for socket in sockets.values() {
        let shares = listener::shares_port(socket).map_err(|source| VerbError::System {
            doing: "look at its listeners",
            source,
        })?;
        if !shares {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A command line as it is typed; a placeholder where the server shows a title of its own.
fn typed(command: &[String]) -> String {
    let is_title =
        matches!(command, [] | [_] if command.concat().contains(' ') || command.is_empty());
    if is_title {
        return "COMMAND".to_owned();
    }
    let words = command.iter().map(String::as_str);
    shlex::try_join(words).unwrap_or_else(|_nul| "COMMAND".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_no_command() {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(typed(&words(&[])), "COMMAND");
        assert_eq!(
            typed(&words(&["nginx: master process nginx -g daemon off;"])),
            "COMMAND"
        );
        assert_eq!(
            typed(&words(&["nginx", "-g", "daemon off;"])),
            "nginx -g 'daemon off;'"
        );
        assert_eq!(typed(&words(&["server"])), "server");
    }
}
