//! `udp-server`: a server of the tests that answers each datagram with its name and does nothing for its own upgrade. A
//! datagram that says `connect` is answered by a socket of its own from then on, connected to its client, as some QUIC
//! and DTLS servers do.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    process::ExitCode,
    thread,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use socket2::{Domain, Socket, Type};

/// A server that answers datagrams.
#[derive(Debug, Clone, Parser)]
#[command(name = "udp-server")]
struct Arguments {
    /// Where to listen; may be repeated.
    #[arg(long)]
    listen: Vec<SocketAddr>,
    /// Where to listen for TCP too; what connects there reads the name.
    #[arg(long)]
    tcp: Option<SocketAddr>,
    /// Sockets at each address. With more than one it sets `SO_REUSEPORT` itself.
    #[arg(long, default_value_t = 1)]
    sockets: u32,
    /// What to answer.
    #[arg(long, default_value = "udp")]
    name: String,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut threads = Vec::new();
    for &address in &arguments.listen {
        for _socket in 0..arguments.sockets {
            let socket = bind(address, arguments.sockets > 1)?;
            let name = arguments.name.clone();
            threads.push(thread::spawn(move || answer(&socket, &name)));
        }
    }
    if let Some(address) = arguments.tcp {
        let listener =
            TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
        let name = arguments.name.clone();
        threads.push(thread::spawn(move || greet(&listener, &name)));
    }
    for thread in threads {
        let _panicked = thread.join();
    }
    Ok(())
}

fn bind(address: SocketAddr, shares: bool) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if shares {
        socket.set_reuse_port(true)?;
    }
    socket
        .bind(&address.into())
        .with_context(|| format!("bind {address}"))?;
    Ok(socket.into())
}

fn answer(socket: &UdpSocket, name: &str) {
    let mut datagram = [0; 2048];
    loop {
        // An ICMP error of a client that has gone is no reason to stop.
        let Ok((length, client)) = socket.recv_from(&mut datagram) else {
            continue;
        };
        let _gone = socket.send_to(name.as_bytes(), client);
        if datagram.get(..length) == Some(b"connect") {
            let own = socket.local_addr().map_err(Into::into);
            let own = own.and_then(|address| bind(address, true));
            if let Ok(own) = own
                && own.connect(client).is_ok()
            {
                let name = format!("{name} connected");
                thread::spawn(move || answer_one(&own, &name));
            }
        }
    }
}

fn answer_one(socket: &UdpSocket, name: &str) {
    let mut datagram = [0; 2048];
    while socket.recv(&mut datagram).is_ok() {
        let _gone = socket.send(name.as_bytes());
    }
}

fn greet(listener: &TcpListener, name: &str) {
    use std::io::Write as _;
    for stream in listener.incoming().flatten() {
        let mut stream = stream;
        let _gone = stream.write_all(name.as_bytes());
    }
}

#[expect(clippy::print_stderr, reason = "stderr is where a server complains")]
fn complain(text: &str) {
    eprintln!("udp-server: {text}");
}
