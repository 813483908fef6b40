//! Everything that waits for clients in a network namespace at one moment, for many who want to
//! know: with hundreds of services, a question to the kernel by each of them about all listeners
//! would cost the square of that.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    cgroup::Cgroup,
    netns::Netns,
    process,
    sock_diag::{self, DumpError, Protocol, Waiting},
};
use crate::clock;

/// How old a list may be for who looks once a second anyway.
pub const LATELY: Duration = Duration::from_millis(200);

/// The sockets, by what they are looked up by.
#[derive(Debug, Default)]
pub struct Listing {
    all: Vec<Waiting>,
    cookies: HashMap<u64, usize>,
    cgroups: HashMap<u64, Vec<usize>>,
    /// Whether the kernel says of each which cgroup made it (5.7+).
    is_sorted: bool,
}

/// A list and when it was made.
type Kept = HashMap<(u64, Protocol), (Instant, Arc<Listing>)>;

impl Listing {
    /// Asks now.
    ///
    /// # Errors
    ///
    /// When the kernel has no `sock_diag` or refuses it.
    pub fn now(netns: &Netns, protocol: Protocol) -> Result<Self, DumpError> {
        Ok(Self::of(sock_diag::waiting(netns, protocol)?))
    }

    /// One that is at most `age` old: somebody else's, or a new one.
    ///
    /// # Errors
    ///
    /// As [`Listing::now`].
    pub fn recent(
        netns: &Netns,
        protocol: Protocol,
        age: Duration,
    ) -> Result<Arc<Self>, DumpError> {
        let now = clock::now();
        Self::since(netns, protocol, now.checked_sub(age).unwrap_or(now))
    }

    /// One that was made at `moment` or later: for who was asked then, of many services.
    ///
    /// # Errors
    ///
    /// As [`Listing::now`].
    pub fn since(
        netns: &Netns,
        protocol: Protocol,
        moment: Instant,
    ) -> Result<Arc<Self>, DumpError> {
        static KEPT: Mutex<Option<Kept>> = Mutex::new(None);
        let inode = netns.inode().map_err(DumpError::from)?;
        // Held while the kernel is asked: whoever comes meanwhile wants the same.
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.get_or_insert_default();
        let now = clock::now();
        // Nobody asks for those of a namespace that is gone.
        kept.retain(|_, (made, _)| now.saturating_duration_since(*made) < LATELY);
        if let Some((made, listing)) = kept.get(&(inode, protocol))
            && *made >= moment
        {
            return Ok(Arc::clone(listing));
        }
        let listing = Arc::new(Self::now(netns, protocol)?);
        kept.insert((inode, protocol), (now, Arc::clone(&listing)));
        Ok(listing)
    }

    fn of(all: Vec<Waiting>) -> Self {
        let mut listing = Self {
            is_sorted: all.iter().all(|socket| socket.cgroup.is_some()),
            ..Self::default()
        };
        for (index, socket) in all.iter().enumerate() {
            listing.cookies.insert(socket.cookie, index);
            if let Some(cgroup) = socket.cgroup {
                listing.cgroups.entry(cgroup).or_default().push(index);
            }
        }
        Self { all, ..listing }
    }

    /// All of them.
    pub fn all(&self) -> &[Waiting] {
        &self.all
    }

    /// The socket with this cookie.
    pub fn get(&self, cookie: u64) -> Option<&Waiting> {
        self.all.get(*self.cookies.get(&cookie)?)
    }

    /// Those of the cgroup and its children: of worker processes too, both families.
    ///
    /// A socket belongs to the cgroup that made it. Where the kernel does not say which, a socket
    /// that one of the cgroup's processes has open counts as its own.
    pub fn below(&self, cgroup: &Cgroup) -> Vec<&Waiting> {
        if self.is_sorted {
            return self.made_in(cgroup);
        }
        let held = process::socket_holders(cgroup.pids());
        let own = |socket: &&Waiting| held.contains_key(&socket.inode);
        self.all.iter().filter(own).collect()
    }

    /// Those of which the kernel says that they were made in the cgroup or its children.
    pub fn made_in(&self, cgroup: &Cgroup) -> Vec<&Waiting> {
        let ids: HashSet<u64> = cgroup.ids().into_iter().collect();
        let own = ids.iter().filter_map(|id| self.cgroups.get(id)).flatten();
        let mut own: Vec<usize> = own.copied().collect();
        own.sort_unstable();
        own.into_iter()
            .filter_map(|index| self.all.get(index))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::listener;

    #[test]
    fn a_list_is_shared_while_it_is_young_enough() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let netns = Netns::own();
        let before = Listing::recent(&netns, Protocol::Tcp, LATELY).unwrap();
        let second = TcpListener::bind("127.0.0.1:0").unwrap();
        let cookie = listener::cookie(&second).unwrap();
        let fresh = Listing::recent(&netns, Protocol::Tcp, Duration::ZERO).unwrap();
        assert!(fresh.get(cookie).is_some() && before.get(cookie).is_none());
        assert!(fresh.get(listener::cookie(&first).unwrap()).is_some());
    }
}
