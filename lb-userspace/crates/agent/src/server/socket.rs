//! The control socket.

use std::{
    fs, io,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixListener,
    },
    path::Path,
};

use crate::{agent::GROUP, sys::users};

/// Opens the socket at `path`: 0660, group `hotlb` where there is one. Replaces one that a dead
/// agent left; the caller holds the lock that makes sure it is dead.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    if let Some(gid) = users::gid_of(GROUP) {
        chown(path, None, Some(gid))?;
    }
    Ok(socket)
}
