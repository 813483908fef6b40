//! The `sd_notify` protocol, the receiving side.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tokio::net::UnixDatagram;

/// The socket one generation notifies; gone with the value.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    /// Opens it at `path`, for a server of user `uid`.
    pub fn bind(path: PathBuf, uid: u32) -> io::Result<Self> {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let socket = UnixDatagram::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        std::os::unix::fs::chown(&path, Some(uid), None)?;
        Ok(Self { socket, path })
    }

    /// The path, as `NOTIFY_SOCKET` names it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for READY=1.
    pub async fn ready(&self) -> io::Result<()> {
        let mut buffer = vec![0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).await?;
            let message = buffer.get(..length).unwrap_or_default();
            if says_ready(message) {
                return Ok(());
            }
        }
    }
}

/// Whether a message has the line READY=1.
pub fn says_ready(message: &[u8]) -> bool {
    message
        .split(|&byte| byte == b'\n')
        .any(|line| line == b"READY=1")
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        // It lies in the runtime directory and is replaced when it is needed again.
        let _left_behind = fs::remove_file(&self.path);
    }
}
