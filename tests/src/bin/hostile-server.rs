//! `hostile-server`: a server of the tests that serves, and beside that does what it can to its supervisor: a huge
//! table of descriptors, listeners that come and go, names that drive terminals, an output without end.

use std::{
    ffi::CString,
    fs::File,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use nix::sys::prctl;
use socket2::{Domain, Socket, Type};

#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// What it answers.
    #[arg(long)]
    name: String,
    /// Where it serves.
    #[arg(long)]
    listen: SocketAddr,
    /// So many descriptors are open.
    #[arg(long, default_value_t = 0)]
    descriptors: usize,
    /// So many threads open and close listeners there.
    #[arg(long, default_value_t = 0)]
    flapping: usize,
    /// What its process is called.
    #[arg(long)]
    called: Option<String>,
    /// It writes this as often as it can, at most so many times.
    #[arg(long, default_value_t = 0)]
    lines: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(called) = &arguments.called {
        prctl::set_name(&CString::new(called.as_str())?)?;
    }
    let _descriptors = descriptors(arguments.descriptors)?;
    let listener = listener(arguments.listen)?;
    for _ in 0..arguments.flapping {
        let address = arguments.listen;
        thread::spawn(move || flap(address));
    }
    let lines = arguments.lines;
    thread::spawn(move || chatter(lines));
    for stream in listener.incoming().flatten() {
        // What goes wrong with a connection is its client's business.
        drop(answer(stream, &arguments.name));
    }
    Ok(())
}

fn descriptors(count: usize) -> Result<Vec<File>> {
    let open = |_| File::open("/dev/null").context("the limit of descriptors is too low");
    (0..count).map(open).collect()
}

fn listener(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(64)?;
    Ok(socket.into())
}

fn flap(address: SocketAddr) {
    loop {
        drop(listener(address));
    }
}

fn chatter(lines: u64) {
    let mut stderr = std::io::stderr().lock();
    for number in 0..lines {
        if writeln!(
            stderr,
            "\u{1b}[2Jline {number} of a server that does not stop talking"
        )
        .is_err()
        {
            return;
        }
    }
}

fn answer(mut stream: TcpStream, name: &str) -> Result<()> {
    let mut request = [0; 4096];
    if stream.read(&mut request)? == 0 {
        return Ok(());
    }
    let length = name.len() + 1;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\nX-Generation: {name}\r\n\r\n{name}\n"
    )?;
    Ok(())
}
