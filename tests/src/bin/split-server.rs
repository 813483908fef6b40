//! `split-server`: a server of the tests that spends its CPU time in three functions, 70, 20 and 10 parts in a hundred,
//! either all the time or for each request. Compiled without frame pointers, as programs of distributions are.

use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use anyhow::Result;
use clap::Parser;

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
    if arguments.spin {
        let worker = std::thread::Builder::new().name(arguments.name.clone());
        worker.spawn(|| {
            loop {
                work(100, 1);
            }
        })?;
    }
    for stream in listener.incoming() {
        // What goes wrong with a connection is its client's business.
        drop(answer(stream?, &arguments));
    }
    Ok(())
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

#[inline(never)]
fn work(steps: u64, slow: u64) {
    black_box(seventy(70 * steps));
    black_box(twenty(20 * steps));
    black_box(ten(10 * steps * slow));
}

#[inline(never)]
fn seventy(steps: u64) -> u64 {
    (0..steps).fold(1, step)
}

#[inline(never)]
fn twenty(steps: u64) -> u64 {
    (0..steps).fold(2, step)
}

#[inline(never)]
fn ten(steps: u64) -> u64 {
    (0..steps).fold(3, step)
}

fn step(state: u64, number: u64) -> u64 {
    black_box(state.wrapping_mul(31).wrapping_add(number))
}
