//! The keeper's side.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    time::Duration,
};

use nix::unistd::setsid;

use super::{
    NAME,
    protocol::{Parked, Reply, Request},
};
use crate::sys::{
    cgroup::Cgroup,
    listener::{self, GroupKey},
    pidfd::Pidfd,
};

/// How a keeper is started.
#[derive(Clone, Debug)]
pub struct KeepArgs {
    /// Where it listens for the agent.
    pub socket: PathBuf,
    /// The cgroup it lives in.
    pub cgroup: PathBuf,
}

/// Longest wait for an agent in the middle of a request.
const PATIENCE: Duration = Duration::from_secs(2);

/// Holds parking listeners until told to quit. Says "ready" on stdout, then lets go of it.
///
/// # Errors
///
/// When the cgroup or the socket cannot be used.
pub fn keep(args: &KeepArgs) -> io::Result<()> {
    // Away from the agent's terminal and group, so that nothing sent to it reaches the keeper.
    // It fails only for a group leader, which has no need of it.
    let _leader = setsid();
    fs::write("/proc/self/comm", NAME)?;
    Cgroup::at(args.cgroup.clone()).enter()?;
    if let Err(error) = fs::remove_file(&args.socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let socket = UnixListener::bind(&args.socket)?;
    fs::set_permissions(&args.socket, fs::Permissions::from_mode(0o600))?;
    io::stdout().write_all(b"ready\n")?;
    let null = fs::File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    serve(&socket);
    fs::remove_file(&args.socket)
}

fn serve(socket: &UnixListener) {
    let mut held: Vec<(Parked, OwnedFd)> = Vec::new();
    for stream in socket.incoming() {
        let Ok(stream) = stream else {
            continue; // out of descriptors or memory: the next one may do better
        };
        if converse(stream, &mut held) == Next::Quit {
            return;
        }
    }
}

/// What follows an answer.
#[derive(PartialEq, Eq)]
enum Next {
    Question,
    Quit,
}

fn converse(mut stream: UnixStream, held: &mut Vec<(Parked, OwnedFd)>) -> Next {
    let Ok(request) = read(&mut stream) else {
        return Next::Question; // an agent that died in the middle
    };
    let reply = answer(&request, held);
    let told = serde_json::to_vec(&reply)
        .map_err(io::Error::other)
        .and_then(|reply| stream.write_all(&reply));
    if told.is_err()
        && let (Request::Open(_), Reply::Parked(opened)) = (&request, &reply)
    {
        // The agent gave up, or is gone: nobody knows of it.
        held.retain(|(parked, _)| !opened.contains(parked));
    }
    match request {
        Request::Quit => Next::Quit,
        _ => Next::Question,
    }
}

fn read(stream: &mut UnixStream) -> io::Result<Request> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    stream.shutdown(Shutdown::Read)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

fn answer(request: &Request, held: &mut Vec<(Parked, OwnedFd)>) -> Reply {
    match request {
        Request::Open(group_key) => match open(*group_key) {
            Ok((parked, fd)) => {
                held.push((parked, fd));
                Reply::Parked(vec![parked])
            }
            Err(error) => Reply::Failed(error.raw_os_error(), error.to_string()),
        },
        Request::Close(cookie) => {
            held.retain(|(parked, _)| parked.cookie != *cookie);
            Reply::Parked(Vec::new())
        }
        Request::Take { pid, parked } => match take(*pid, parked) {
            Ok(taken) => {
                held.extend(taken);
                Reply::Parked(held.iter().map(|(parked, _)| *parked).collect())
            }
            Err(error) => Reply::Failed(error.raw_os_error(), error.to_string()),
        },
        Request::List => Reply::Parked(held.iter().map(|(parked, _)| *parked).collect()),
        Request::Quit => {
            held.clear();
            Reply::Parked(Vec::new())
        }
    }
}

/// All of them, or none.
fn take(pid: u32, parked: &[Parked]) -> io::Result<Vec<(Parked, OwnedFd)>> {
    let former = Pidfd::open(pid)?;
    let taken = parked.iter().map(|parked| {
        let fd = former.take(parked.fd)?;
        if listener::cookie(&fd)? != parked.cookie {
            return Err(io::Error::other(
                "the descriptor now belongs to another socket",
            ));
        }
        let parked = Parked {
            fd: fd.as_raw_fd(),
            ..*parked
        };
        Ok((parked, fd))
    });
    taken.collect()
}

fn open(group_key: GroupKey) -> io::Result<(Parked, OwnedFd)> {
    let fd = listener::open(&group_key)?;
    let parked = Parked {
        group_key,
        cookie: listener::cookie(&fd)?,
        fd: fd.as_raw_fd(),
    };
    Ok((parked, fd))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    fn group_key(port: u16) -> GroupKey {
        GroupKey {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            v6only: false,
            uid: 0,
        }
    }

    /// Asks, and does not wait for the answer.
    fn asked_in_vain(request: &Request, held: &mut Vec<(Parked, OwnedFd)>) {
        let (mut agent, keeper) = UnixStream::pair().unwrap();
        agent
            .write_all(&serde_json::to_vec(request).unwrap())
            .unwrap();
        drop(agent);
        assert!(converse(keeper, held) == Next::Question);
    }

    #[test]
    fn what_nobody_was_told_of_is_closed_and_nothing_else() {
        let mut held = Vec::new();
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let Reply::Parked(kept) = answer(&Request::Open(group_key(port)), &mut held) else {
            panic!("it is free");
        };
        for wanted in [port, taken.local_addr().unwrap().port()] {
            asked_in_vain(&Request::Open(group_key(wanted)), &mut held);
            let left: Vec<Parked> = held.iter().map(|(parked, _)| *parked).collect();
            assert_eq!(left, kept);
        }
    }
}
