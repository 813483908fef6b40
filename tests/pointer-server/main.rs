//! `pointer-server NAME ADDRESS`: a server of the tests that spends its CPU time as `split-server` does, all the time and on
//! one CPU, and is compiled with frame pointers. It answers nothing.

#[path = "../src/parts.rs"]
mod parts;

use std::{env, error::Error, net::TcpListener, thread};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let (name, address) = (words.next(), words.next());
    let listener = TcpListener::bind(address.ok_or("no address")?)?;
    let worker = thread::Builder::new().name(name.ok_or("no name")?);
    worker.spawn(spin)?;
    for stream in listener.incoming() {
        drop(stream?);
    }
    Ok(())
}

fn spin() {
    loop {
        parts::work(100, 1);
    }
}
