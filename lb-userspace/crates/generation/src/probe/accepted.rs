//! Whether the candidate took a connection from its queue. The handshake says nothing about that:
//! the kernel makes it.

use std::{net::SocketAddr, time::Duration};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};
use tokio::net::TcpStream;

use super::{
    ProbeError,
    far_end::{FarEnd, Seen},
};

/// How often the kernel is asked.
const EVERY: Duration = Duration::from_millis(2);
/// So many looks at a handshake in a row mean that the listener waits for data: the last packet of
/// an ordinary one is there by then.
const PATIENT: u32 = 2;
/// What is sent to a listener that waits for data. Servers of HTTP pass over an empty line, and one of
/// another protocol that defers has to expect anything from the first who comes.
const NUDGE: &[u8] = b"\r\n";

/// Returns once the candidate has taken the connection of `stream`, which comes from `source`.
pub(super) async fn wait(
    stream: &TcpStream,
    source: SocketAddr,
    target: SocketAddr,
    end: &FarEnd<'_>,
) -> Result<(), ProbeError> {
    let mut tick = tokio::time::interval(EVERY);
    let mut handshakes = 0;
    let mut was_queued = false;
    loop {
        tick.tick().await;
        match end.look(source, target)? {
            Seen::Accepted => return Ok(()),
            Seen::Queued => was_queued = true,
            Seen::Handshake => {
                handshakes += 1;
                if handshakes == PATIENT {
                    nudge(stream, end.address())?;
                }
            }
            // Only who has taken a connection can answer or end it; but was it the candidate?
            Seen::Nothing if is_silent(stream) => {}
            Seen::Nothing if was_queued || end.was_led() => return Ok(()),
            Seen::Astray | Seen::Nothing => return Err(ProbeError::Unlisted(end.address())),
        }
    }
}

/// The few bytes fit into any socket's buffer.
fn nudge(stream: &TcpStream, address: SocketAddr) -> Result<(), ProbeError> {
    match rustix::net::send(stream, NUDGE, SendFlags::NOSIGNAL) {
        Ok(_sent) => Ok(()),
        Err(error) => Err(ProbeError::Connection {
            address,
            source: error.into(),
        }),
    }
}

/// Whether nothing came from the server: no data, and no end, in order or not.
fn is_silent(stream: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let heard = rustix::net::recv(stream, &mut [0_u8; 1][..], flags);
    heard.is_err_and(|error| error == Errno::WOULDBLOCK)
}
