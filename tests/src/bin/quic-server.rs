//! `quic-server`: a server of the tests that speaks QUIC by quinn, answers each stream with its name and does nothing
//! for its own upgrade.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use quinn::{
    ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, Incoming, TokioRuntime,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Socket, Type};

/// Octets of each id that are left to chance.
const NONCE: usize = 8;

/// A server that answers streams of QUIC.
#[derive(Debug, Clone, Parser)]
#[command(name = "quic-server")]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Sockets at the address, each with an endpoint that knows nothing of the others. With more than one it sets
    /// `SO_REUSEPORT` itself, and answers with the number of the socket too.
    #[arg(long, default_value_t = 1)]
    sockets: u32,
    /// What to answer.
    #[arg(long, default_value = "quic")]
    name: String,
    /// What the connections' ids say after their first octet, in hexadecimal digits. Without it they are quinn's own.
    #[arg(long, env = "HOTLB_QUIC_SERVER_ID")]
    server_id: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let server = server()?;
    let ids = arguments.server_id.as_deref().map(Routable::parse);
    let ids = ids.transpose()?;
    let mut endpoints = tokio::task::JoinSet::new();
    for number in 1..=arguments.sockets {
        let mut config = EndpointConfig::default();
        if let Some(ids) = ids.clone() {
            config.cid_generator(move || Box::new(ids.clone()));
        }
        let socket = bind(arguments.listen, arguments.sockets > 1)?;
        let runtime = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new(config, Some(server.clone()), socket, runtime)?;
        let name = if arguments.sockets > 1 {
            format!("{} {number}", arguments.name)
        } else {
            arguments.name.clone()
        };
        endpoints.spawn(serve(endpoint, name));
    }
    endpoints.join_all().await;
    Ok(())
}

fn server() -> Result<quinn::ServerConfig> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der());
    let key = key.map_err(anyhow::Error::msg)?;
    let chain = vec![CertificateDer::from(own.cert)];
    Ok(quinn::ServerConfig::with_single_cert(chain, key)?)
}

fn bind(address: SocketAddr, shares: bool) -> Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if shares {
        socket.set_reuse_port(true)?;
    }
    socket
        .bind(&address.into())
        .with_context(|| format!("bind {address}"))?;
    Ok(socket.into())
}

async fn serve(endpoint: Endpoint, name: String) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(answer(incoming, name.clone()));
    }
}

/// Answers each stream of a connection. A client that has gone is no reason to stop.
async fn answer(incoming: Incoming, name: String) {
    let Ok(connection) = incoming.await else {
        return;
    };
    while let Ok((mut answer, mut question)) = connection.accept_bi().await {
        if question.read_to_end(64).await.is_ok() && answer.write_all(name.as_bytes()).await.is_ok()
        {
            let _gone = answer.finish();
        }
    }
}

/// Ids as QUIC-LB has them in plain text: an octet of chance, the server's id, a nonce.
#[derive(Debug, Clone)]
struct Routable {
    server_id: Vec<u8>,
}

impl Routable {
    fn parse(hex: &str) -> Result<Self> {
        let octet = |at: usize| {
            let digits = hex.get(at..at + 2).context("an octet has two digits")?;
            u8::from_str_radix(digits, 16).context("the server id")
        };
        let server_id: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(octet)
            .collect::<Result<_>>()?;
        ensure!(
            (1..=4).contains(&server_id.len()),
            "one to four octets of server id"
        );
        Ok(Self { server_id })
    }
}

impl ConnectionIdGenerator for Routable {
    fn generate_cid(&mut self) -> ConnectionId {
        // Configuration 0; the other bits are left to chance.
        let mut id = vec![fastrand::u8(..) & 0x1f];
        id.extend(&self.server_id);
        id.extend(std::iter::repeat_with(|| fastrand::u8(..)).take(NONCE));
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        1 + self.server_id.len() + NONCE
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[expect(clippy::print_stderr, reason = "stderr is where a server complains")]
fn complain(text: &str) {
    eprintln!("quic-server: {text}");
}
