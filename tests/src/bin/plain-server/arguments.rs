//! The flags.

use std::net::SocketAddr;

use clap::Parser;

/// A server that sets no `SO_REUSEPORT`.
#[derive(Debug, Parser)]
#[command(name = "plain-server")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
pub(crate) struct Arguments {
    /// Where to listen; may be repeated.
    #[arg(long)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Take IPv4 too on IPv6 addresses, whatever the sysctl says.
    #[arg(long, conflicts_with = "v6only")]
    pub(crate) dual_stack: bool,
    /// Take no IPv4 on IPv6 addresses, whatever the sysctl says.
    #[arg(long)]
    pub(crate) v6only: bool,
    /// Connections that may wait for `accept()`.
    #[arg(long, default_value_t = 511)]
    pub(crate) backlog: i32,
    /// What to answer.
    #[arg(long, default_value = "plain")]
    pub(crate) name: String,
    /// Threads that serve.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Milliseconds each answer takes; the one to `/hold?ms=N` takes N.
    #[arg(long, default_value_t = 0)]
    pub(crate) delay_ms: u64,
    /// Say nothing of connections that are kept, as HTTP/1.1 allows.
    #[arg(long)]
    pub(crate) bare: bool,
    /// Run, but never listen.
    #[arg(long)]
    pub(crate) never_listen: bool,
    /// Listen, but never accept.
    #[arg(long)]
    pub(crate) never_accept: bool,
    /// Milliseconds before it listens.
    #[arg(long, default_value_t = 0)]
    pub(crate) listen_after_ms: u64,
    /// Exit at once with this code.
    #[arg(long, value_name = "CODE")]
    pub(crate) exit_at_once: Option<u8>,
    /// Become this user and group before any socket is made.
    #[arg(long)]
    pub(crate) uid: Option<u32>,
    /// Serve the sockets of `LISTEN_FDS` instead of making any.
    #[arg(long)]
    pub(crate) inherit: bool,
    /// Send READY=1 to `NOTIFY_SOCKET` once it serves.
    #[arg(long)]
    pub(crate) notify: bool,
    /// Status of the answer to /healthz.
    #[arg(long, default_value_t = 200)]
    pub(crate) health_status: u16,
    /// Lines to write to stderr first.
    #[arg(long, default_value_t = 0)]
    pub(crate) stderr_lines: u32,
}
