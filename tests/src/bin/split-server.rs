//! `split-server`: a server of the tests that spends its CPU time in three functions, 70, 20 and 10 parts in a hundred,
//! either all the time or for each request; or that waits in known ways. Compiled without frame pointers, as programs of distributions are.

use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{Mutex, mpsc},
};

use anyhow::Result;
use clap::Parser;
use hotlb_tests::parts::work;
use nix::{
    poll,
    sys::time::{TimeSpec, TimeValLike as _},
};

#[derive(Debug, Parser)]
struct Arguments {
    /// What it answers, and what its threads that work are called.
    #[arg(long)]
    name: String,
    /// Where it serves.
    #[arg(long)]
    listen: SocketAddr,
    /// Works all the time, on one CPU, beside serving.
    #[arg(long)]
    spin: bool,
    /// So many threads work all the time.
    #[arg(long, default_value_t = 1)]
    spin_threads: usize,
    /// Waits all the time beside serving: one thread asleep and reading by turns, 70 and 30 parts in a hundred, and
    /// one for a lock that the first one has.
    #[arg(long)]
    wait: bool,
    /// Steps of a hundredth of the work for each request.
    #[arg(long, default_value_t = 0)]
    steps: u64,
    /// How much slower the third function is than it should be.
    #[arg(long, default_value_t = 1)]
    slow: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen)?;
    for _ in 0..if arguments.spin {
        arguments.spin_threads
    } else {
        0
    } {
        let worker = std::thread::Builder::new().name(arguments.name.clone());
        worker.spawn(|| {
            loop {
                work(100, 1);
            }
        })?;
    }
    if arguments.wait {
        wait(&arguments.name)?;
    }
    for stream in listener.incoming() {
        // What goes wrong with a connection is its client's business.
        drop(answer(stream?, &arguments));
    }
    Ok(())
}

/// Starts the threads that wait; returns when one waits for the other.
fn wait(name: &str) -> Result<()> {
    static LOCK: Mutex<()> = Mutex::new(());
    let (mut stream, mut peer) = UnixStream::pair()?;
    // The timeout of a read would be rounded up to the kernel's ticks; a sleep is exact.
    std::thread::spawn(move || {
        while peer.read_exact(&mut [0]).is_ok() {
            pass(30);
            drop(peer.write_all(&[0]));
        }
    });
    let (has_lock, had_lock) = mpsc::channel();
    let waiter = std::thread::Builder::new().name(name.to_owned());
    waiter.spawn(move || {
        let _held = LOCK.lock();
        let _received = has_lock.send(());
        loop {
            seventy_asleep();
            thirty_reading(&mut stream);
        }
    })?;
    had_lock.recv()?;
    std::thread::Builder::new()
        .name(format!("{name}-lock"))
        .spawn(|| locked_out(&LOCK))?;
    Ok(())
}

/// Waits exactly so many milliseconds, for nothing: this is what is sampled.
fn pass(ms: i64) -> Option<i32> {
    poll::ppoll(&mut [], Some(TimeSpec::milliseconds(ms)), None).ok()
}

#[inline(never)]
fn seventy_asleep() {
    black_box(pass(70));
}

#[inline(never)]
fn thirty_reading(stream: &mut UnixStream) {
    drop(stream.write_all(&[0]));
    drop(black_box(stream.read(&mut [0])));
}

#[inline(never)]
fn locked_out(lock: &Mutex<()>) {
    drop(black_box(lock.lock()));
}

fn answer(mut stream: TcpStream, arguments: &Arguments) -> Result<()> {
    let mut request = [0; 4096];
    if stream.read(&mut request)? == 0 {
        return Ok(());
    }
    work(arguments.steps, arguments.slow);
    let Arguments { name, .. } = arguments;
    let length = name.len() + 1;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\nX-Generation: {name}\r\n\r\n{name}\n"
    )?;
    Ok(())
}
