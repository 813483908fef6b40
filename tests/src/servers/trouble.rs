//! `trouble-server`, which goes wrong when it is told to.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Result, ensure};

use super::CommandLine;
use crate::{locate, netns::Netns};

/// How long it may take to understand.
const LIMIT: Duration = Duration::from_secs(5);

/// The command line of a generation on port 8080 that is told on `control`, with more arguments.
pub fn command(name: &str, control: u16, arguments: &[&str]) -> Result<CommandLine> {
    let binary = locate::trouble_server()?.display().to_string();
    let control = format!("127.0.0.1:{control}");
    let own = [
        binary.as_str(),
        "--name",
        name,
        "--listen",
        "0.0.0.0:8080",
        "--control",
        control.as_str(),
    ];
    let words = own.iter().chain(arguments);
    Ok(words.map(|&word| word.to_owned()).collect())
}

/// Has the server that is told on `control` begin a trouble, as `trouble-server` names it.
pub fn tell(netns: &Netns, control: u16, trouble: &str) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], control));
    let mut stream = netns.run(|| TcpStream::connect(address))??;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(format!("{trouble}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    ensure!(answer == "ok\n", "{trouble}: {answer}");
    Ok(())
}
