//! `trouble-server`: a server of the tests that does a little work for each request, and on demand has trouble for a
//! while. What is written to its control port, a line each, says which: see [`trouble::Trouble`].

mod serve;
mod trouble;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use clap::Parser;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::trouble::Trouble;

#[derive(Debug, Parser)]
struct Arguments {
    /// What it answers.
    #[arg(long)]
    name: String,
    /// Where it serves.
    #[arg(long)]
    listen: SocketAddr,
    /// Where it is told to have trouble.
    #[arg(long)]
    control: SocketAddr,
    /// Milliseconds a request takes without using the CPU; some take twice as long.
    #[arg(long, default_value_t = 4)]
    wait_ms: u64,
    /// Steps of the work for each request, about a microsecond each in an unoptimised build.
    #[arg(long, default_value_t = 100)]
    steps: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments = Arc::new(Arguments::parse());
    let trouble = Arc::new(Trouble::default());
    let control = TcpListener::bind(arguments.control).await?;
    tokio::spawn(obey(control, Arc::clone(&trouble)));
    serve::serve(arguments, trouble).await
}

async fn obey(control: TcpListener, trouble: Arc<Trouble>) {
    while let Ok((stream, _)) = control.accept().await {
        let trouble = Arc::clone(&trouble);
        // A word that is not understood is answered, and the connection ends.
        tokio::spawn(async move { drop(listen(stream, &trouble).await) });
    }
}

async fn listen(stream: TcpStream, trouble: &Trouble) -> Result<()> {
    let (from, mut to) = stream.into_split();
    let mut lines = BufReader::new(from).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match trouble.begin(&line) {
            Ok(()) => "ok\n".to_owned(),
            Err(error) => format!("{error:#}\n"),
        };
        to.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
