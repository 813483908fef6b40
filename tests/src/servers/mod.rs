//! Command lines of real servers. Each answers with the name it is given, so that an answer names its generation.

pub mod haproxy;
pub mod hostile;
pub mod nginx;
pub mod nio;
pub mod node;
pub mod plain;
pub mod python;
pub mod quic;
pub mod reader;
pub mod split;
pub mod trouble;
pub mod udp;
pub mod workers;

use std::path::Path;

use anyhow::Result;

pub use self::{haproxy::Haproxy, nginx::Nginx, plain::Plain, quic::Quic, udp::Udp};

/// A command line.
pub type CommandLine = Vec<String>;

/// The servers every guarantee is shown with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Stock nginx with one worker and a plain `listen`.
    Nginx,
    /// Stock nginx with two workers and `listen ... reuseport`: two sockets for each generation.
    NginxReuseport,
    /// Stock haproxy, which answers by itself.
    Haproxy,
    /// `python3 -m http.server`, with its backlog of 5.
    Python,
    /// node's http server.
    Node,
    /// The server of the tests, which sets no `SO_REUSEPORT`.
    Plain,
    /// The same, which says nothing of connections it keeps.
    PlainBare,
}

impl Kind {
    /// What it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::NginxReuseport => "nginx reuseport",
            Self::Haproxy => "haproxy",
            Self::Python => "python3 http.server",
            Self::Node => "node",
            Self::Plain => "plain-server",
            Self::PlainBare => "plain-server without Connection headers",
        }
    }

    /// Why it cannot run here, if so.
    pub fn missing(self) -> Option<&'static str> {
        match self {
            Self::Nginx | Self::NginxReuseport => nginx::binary()
                .is_none()
                .then_some("nginx is not installed"),
            Self::Haproxy => haproxy::binary()
                .is_none()
                .then_some("haproxy is not installed"),
            Self::Python => python::binary()
                .is_none()
                .then_some("python3 is not installed"),
            Self::Node => node::binary().is_none().then_some("node is not installed"),
            Self::Plain | Self::PlainBare => None,
        }
    }

    /// The command line of a generation on `0.0.0.0:port`, whose files lie below `directory`.
    pub fn command(self, directory: &Path, generation: &str, port: u16) -> Result<CommandLine> {
        match self {
            Self::Nginx => Nginx::new(generation)
                .listen(&format!("0.0.0.0:{port}"))
                .command(directory),
            Self::NginxReuseport => Nginx::new(generation)
                .workers(2)
                .listen(&format!("0.0.0.0:{port} reuseport"))
                .command(directory),
            Self::Haproxy => {
                Haproxy::new(generation).answering(directory, &format!("0.0.0.0:{port}"))
            }
            Self::Python => python::command(directory, generation, "0.0.0.0", port),
            Self::Node => node::command(generation, Some("0.0.0.0"), port),
            Self::Plain => Plain::new(generation)
                .listen(&format!("0.0.0.0:{port}"))
                .command(),
            Self::PlainBare => Plain::new(generation)
                .listen(&format!("0.0.0.0:{port}"))
                .flag("--bare")
                .command(),
        }
    }
}
