//! `worker-server`: a server of the tests with several workers, each of which serves one connection at a time, as
//! servers that fork do. Each has its own listener (`SO_REUSEPORT`), or all share one.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;
use socket2::{Domain, Socket, Type};

#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// What it answers.
    #[arg(long)]
    name: String,
    /// Where it serves.
    #[arg(long)]
    listen: SocketAddr,
    /// How many serve.
    #[arg(long, default_value_t = 4)]
    workers: u64,
    /// All of them accept from one listener.
    #[arg(long)]
    shared: bool,
    /// One of how many requests waits, as for a database; 0 for none.
    #[arg(long, default_value_t = 0)]
    slow_one_of: u64,
    /// How long it waits, in milliseconds.
    #[arg(long, default_value_t = 20)]
    slow_ms: u64,
    /// The first worker takes up nothing as long as this file exists.
    #[arg(long)]
    hang: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let first = listener(&arguments)?;
    let mut workers = Vec::new();
    for number in 0..arguments.workers {
        let listener = match (number, arguments.shared) {
            (0, _) | (_, true) => first.try_clone()?,
            (_, false) => listener(&arguments)?,
        };
        let arguments = arguments.clone();
        workers.push(thread::spawn(move || work(&listener, number, &arguments)));
    }
    for worker in workers {
        // A worker that panicked has said so.
        drop(worker.join());
    }
    Ok(())
}

fn listener(arguments: &Arguments) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(arguments.listen), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(!arguments.shared)?;
    socket.bind(&arguments.listen.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn work(listener: &TcpListener, number: u64, arguments: &Arguments) {
    for stream in listener.incoming().flatten() {
        // What goes wrong with a connection is its client's business.
        drop(answer(stream, arguments));
        while number == 0 && arguments.hang.as_ref().is_some_and(|file| file.exists()) {
            wait(Duration::from_millis(5));
        }
    }
}

fn answer(mut stream: TcpStream, arguments: &Arguments) -> Result<()> {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let mut request = [0; 4096];
    if stream.read(&mut request)? == 0 {
        return Ok(());
    }
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    // Not every fiftieth in a row: the same worker would get them all.
    let lot = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    if arguments.slow_one_of > 0 && lot.is_multiple_of(arguments.slow_one_of) {
        wait(Duration::from_millis(arguments.slow_ms));
    }
    let Arguments { name, .. } = arguments;
    let length = name.len() + 1;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\nX-Generation: {name}\r\n\r\n{name}\n"
    )?;
    Ok(())
}

/// Does nothing for so long.
fn wait(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}
