//! `script-server`: a server of the tests that sends exactly the bytes of a scene, by exactly the writes it says.
//! What is connected to its control port lets it go on where a scene waits.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use hotlb_tests::script::{self, Step};

#[derive(Debug, Parser)]
struct Arguments {
    /// Where it serves.
    #[arg(long)]
    listen: SocketAddr,
    /// Where it is told to go on.
    #[arg(long)]
    control: SocketAddr,
}

/// Whether the test has said go, and whom to tell.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    fn wait(&self) {
        let closed = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(closed, |open| !*open));
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let gate = Arc::new(Gate::default());
    let control = TcpListener::bind(arguments.control)?;
    let opener = Arc::clone(&gate);
    std::thread::spawn(move || {
        for _ in control.incoming() {
            opener.open();
        }
    });
    for stream in TcpListener::bind(arguments.listen)?.incoming() {
        let (stream, gate) = (stream?, Arc::clone(&gate));
        std::thread::spawn(move || drop(serve(stream, &gate)));
    }
    Ok(())
}

fn serve(mut stream: TcpStream, gate: &Gate) -> Result<()> {
    stream.set_nodelay(true)?;
    let first = read(&mut stream)?;
    let name = first.split([' ', '/']).nth(2).context("a path")?.to_owned();
    let scenes = script::scenes();
    let scene = scenes.iter().find(|scene| scene.name == name);
    for step in &scene.with_context(|| name.clone())?.steps {
        match step {
            Step::Read => drop(read(&mut stream)?),
            Step::Write(text, _) => stream.write_all(text.as_bytes())?,
            Step::Await => gate.wait(),
        }
    }
    // The client ends the connection: nothing but the scene's bytes reaches it before.
    while stream.read(&mut [0; 64])? > 0 {}
    Ok(())
}

/// Reads byte by byte, so that what follows stays unread.
fn read(stream: &mut TcpStream) -> Result<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        text.extend(byte);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
