//! Users and groups by name or number.

use nix::unistd::{Gid, Group, Uid, User};
use thiserror::Error;

/// Why a user or group cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The name is not known here.
    #[error("{kind} \"{name}\" does not exist on this host")]
    Unknown {
        /// "user" or "group".
        kind: &'static str,
        /// The name.
        name: String,
    },
}

/// Who a server runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name, for its supplementary groups; `None` if it was given as a number.
    pub name: Option<String>,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Identity {
    /// root.
    pub fn root() -> Self {
        Self {
            name: None,
            uid: 0,
            gid: 0,
        }
    }

    /// The user and group of these names or numbers; the user's own group if none is given.
    pub fn resolve(user: &str, group: Option<&str>) -> Result<Self, IdentityError> {
        let by_name = User::from_name(user).ok().flatten();
        let by_number = user.parse::<u32>().ok();
        let (name, uid, own_gid) = match (by_name, by_number) {
            (Some(user), _) => (Some(user.name), user.uid.as_raw(), user.gid.as_raw()),
            (None, Some(uid)) => {
                let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
                let gid = known.as_ref().map_or(uid, |user| user.gid.as_raw());
                (known.map(|user| user.name), uid, gid)
            }
            (None, None) => return Err(unknown("user", user)),
        };
        let gid = match group {
            None => own_gid,
            Some(group) => gid_of(group).ok_or_else(|| unknown("group", group))?,
        };
        Ok(Self { name, uid, gid })
    }
}

/// The number of a group, by its name or as it is.
pub fn gid_of(group: &str) -> Option<u32> {
    match Group::from_name(group).ok().flatten() {
        Some(group) => Some(group.gid.as_raw()),
        None => group.parse().ok(),
    }
}

/// The name of a user, or its number.
pub fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name)
}

/// The number this process runs as.
pub fn effective_uid() -> u32 {
    Uid::effective().as_raw()
}

/// The number of the group this process runs as.
pub fn effective_gid() -> u32 {
    Gid::effective().as_raw()
}

/// The number of group `gid` as nix spells it.
pub fn gid(gid: u32) -> Gid {
    Gid::from_raw(gid)
}

fn unknown(kind: &'static str, name: &str) -> IdentityError {
    IdentityError::Unknown {
        kind,
        name: name.to_owned(),
    }
}
