//! Clients of QUIC, by quinn, and a relay that does to them what a router does when it forgets them.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket as StdSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, TokioRuntime,
    crypto::rustls::QuicClientConfig,
};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{net::UdpSocket, runtime::Runtime, task::JoinHandle, time::timeout};

use crate::{netns::Netns, patience};

/// How long a handshake or an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The first port of a client. Each socket has one of its own: the kernel would now and then choose one again whose
/// flow is still known.
const FIRST_PORT: u16 = 20_000;

/// Clients in one namespace, and what runs them.
#[derive(Debug)]
pub struct Clients<'a> {
    runtime: Runtime,
    netns: &'a Netns,
    target: SocketAddr,
    next_port: AtomicU16,
}

/// A connection, and where its datagrams go through.
#[derive(Debug)]
pub struct Client<'a> {
    all: &'a Clients<'a>,
    endpoint: Endpoint,
    connection: Connection,
    relay: Relay,
}

impl<'a> Clients<'a> {
    /// Clients of `target` in the namespace.
    pub fn new(netns: &'a Netns, target: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            netns,
            target,
            next_port: AtomicU16::new(FIRST_PORT),
        })
    }

    /// A client with a socket and a relay of its own opens a connection.
    pub fn connect(&'a self) -> Result<Client<'a>> {
        let _guard = self.runtime.enter();
        let relay = Relay::new(self)?;
        let config = EndpointConfig::default();
        let endpoint = Endpoint::new(config, None, self.socket()?, Arc::new(TokioRuntime))?;
        let connecting = endpoint.connect_with(anybody()?, relay.front, "localhost")?;
        let connection = self.within(LIMIT, async { Ok(connecting.await?) })?;
        Ok(Client {
            all: self,
            endpoint,
            connection,
            relay,
        })
    }

    /// So many of them.
    pub fn several(&'a self, count: usize) -> Result<Vec<Client<'a>>> {
        (0..count).map(|_| self.connect()).collect()
    }

    fn socket(&self) -> Result<StdSocket> {
        let port = self.next_port.fetch_add(1, Ordering::Relaxed);
        let socket = self
            .netns
            .run(|| StdSocket::bind((Ipv4Addr::LOCALHOST, port)))??;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn within<T>(&self, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = patience::of(limit);
        self.runtime
            .block_on(async { timeout(limit, work).await })
            .context("nothing came in time")?
    }
}

impl Client<'_> {
    /// Who answers on a stream of the connection.
    pub fn ask(&self) -> Result<String> {
        self.ask_within(LIMIT)
    }

    /// Who answers, within `limit`.
    pub fn ask_within(&self, limit: Duration) -> Result<String> {
        self.all.within(limit, async {
            let (mut question, mut answer) = self.connection.open_bi().await?;
            question.write_all(b"?").await?;
            question.finish()?;
            Ok(String::from_utf8(answer.read_to_end(64).await?)?)
        })
    }

    /// Fails unless `name` answers.
    pub fn expect(&self, name: &str) -> Result<()> {
        let answer = self.ask()?;
        ensure!(answer == name, "answered by {answer}, not by {name}");
        Ok(())
    }

    /// A router on the way gives the client another port, of which the client knows nothing: the ids stay.
    pub fn reroute(&self) -> Result<()> {
        let _guard = self.all.runtime.enter();
        self.relay.reroute(self.all)
    }

    /// The client takes another socket, and hence another id (RFC 9000, section 9.5), on purpose.
    pub fn migrate(&self) -> Result<()> {
        let _guard = self.all.runtime.enter();
        // By the relay the server would see nothing of it.
        self.relay.reroute(self.all)?;
        Ok(self.endpoint.rebind(self.all.socket()?)?)
    }
}

/// Passes datagrams on, from a port that can be changed.
#[derive(Debug)]
struct Relay {
    front: SocketAddr,
    socket: Arc<UdpSocket>,
    client: Arc<Mutex<Option<SocketAddr>>>,
    back: Arc<Mutex<Arc<UdpSocket>>>,
    upwards: JoinHandle<()>,
    downwards: Mutex<JoinHandle<()>>,
}

impl Relay {
    fn new(all: &Clients<'_>) -> Result<Self> {
        let socket = Arc::new(UdpSocket::from_std(all.socket()?)?);
        let client = Arc::new(Mutex::new(None));
        let (back, downwards) = way(all, &socket, &client)?;
        let back = Arc::new(Mutex::new(back));
        let upwards = tokio::spawn(upwards(
            Arc::clone(&socket),
            Arc::clone(&client),
            Arc::clone(&back),
        ));
        Ok(Self {
            front: socket.local_addr()?,
            socket,
            client,
            back,
            upwards,
            downwards: Mutex::new(downwards),
        })
    }

    fn reroute(&self, all: &Clients<'_>) -> Result<()> {
        let (back, downwards) = way(all, &self.socket, &self.client)?;
        *held(&self.back) = back;
        std::mem::replace(&mut *held(&self.downwards), downwards).abort();
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.upwards.abort();
        held(&self.downwards).abort();
    }
}

/// A port towards the server, and who passes on what comes back to it.
fn way(
    all: &Clients<'_>,
    front: &Arc<UdpSocket>,
    client: &Arc<Mutex<Option<SocketAddr>>>,
) -> Result<(Arc<UdpSocket>, JoinHandle<()>)> {
    let back = all.socket()?;
    back.connect(all.target)?;
    let back = Arc::new(UdpSocket::from_std(back)?);
    let downwards = downwards(Arc::clone(&back), Arc::clone(front), Arc::clone(client));
    Ok((back, tokio::spawn(downwards)))
}

async fn upwards(
    front: Arc<UdpSocket>,
    client: Arc<Mutex<Option<SocketAddr>>>,
    back: Arc<Mutex<Arc<UdpSocket>>>,
) {
    let mut datagram = [0; 2048];
    loop {
        let Ok((length, from)) = front.recv_from(&mut datagram).await else {
            continue;
        };
        *held(&client) = Some(from);
        let back = Arc::clone(&held(&back));
        let _gone = back.send(datagram.get(..length).unwrap_or_default()).await;
    }
}

async fn downwards(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    client: Arc<Mutex<Option<SocketAddr>>>,
) {
    let mut datagram = [0; 2048];
    loop {
        let Ok(length) = back.recv(&mut datagram).await else {
            continue;
        };
        let to = *held(&client);
        if let Some(to) = to {
            let datagram = datagram.get(..length).unwrap_or_default();
            let _gone = front.send_to(datagram, to).await;
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// TLS that believes every server: the tests' servers make their certificates when they start.
fn anybody() -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(
        tls,
    )?)))
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
