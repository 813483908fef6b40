//! One service, checked and resolved.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use hotlb_sys::{listener::GroupKey, users::Identity};
use lb_common::Workers;
use serde::{Deserialize, Serialize};

use super::{
    ConfigError, Datagrams, Health, Hook, IncidentPolicy, KeptProfiles,
    datagrams::Listen,
    policy::{DrainPolicy, KeepPolicy},
};

/// A service as the agent runs it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceConfig {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// Its TCP addresses; one reuseport group each.
    pub listen: Vec<SocketAddr>,
    /// Its UDP side, if it has one.
    pub datagrams: Option<Datagrams>,
    /// The file of the network namespace they are in; `None` for the agent's own.
    pub netns: Option<PathBuf>,
    /// How a candidate is asked whether it serves.
    pub health: Health,
    /// Who its servers run as; also the owner of the groups.
    pub identity: Identity,
    /// How a generation gets its listeners.
    pub hand_over: HandOver,
    /// Whether readiness waits for the server's READY=1.
    pub notify: bool,
    /// What happens to a bind of the service's port on an undeclared address.
    pub undeclared: Undeclared,
    /// Who may bind its ports.
    pub reserve: Reserve,
    /// What is done when somebody else replaces hotlb's program.
    pub foreign_program: ForeignProgram,
    /// How long a candidate may take to become ready.
    pub ready_timeout: Duration,
    /// How a generation is drained.
    pub drain: DrainPolicy,
    /// How long a generation is on probation after a promote; zero for not at all.
    pub bake: Duration,
    /// What becomes of drained generations.
    pub keep: KeepPolicy,
    /// Whether the agent may start while somebody else has the ports, to adopt them.
    pub adopt: bool,
    /// Whether the kernel measures how long clients wait.
    pub latency: bool,
    /// Profiles that are kept; `None` for none.
    pub profiles: Option<KeptProfiles>,
    /// What is done about unusual windows.
    pub incidents: IncidentPolicy,
    /// Which listener of a generation takes a connection.
    pub workers: WorkerChoice,
    /// How long a listener's queue may stand still before another takes its connections; `None`
    /// for ever.
    pub hung_worker_after: Option<Duration>,
    /// What its rollouts run, in this order within a phase.
    pub hooks: Vec<Hook>,
}

/// How a generation gets its listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum HandOver {
    /// The server opens them; both generations listen side by side.
    #[default]
    Overlap,
    /// The agent opens them and passes them on as `LISTEN_FDS`.
    Inherit,
    /// The server cannot run twice: clients wait while one generation ends and the next starts.
    Parked,
    /// Overlap, until a second instance ended by itself beside the first; parked from then on.
    Auto,
}

impl HandOver {
    /// The name in the configuration and in `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Inherit => "inherit",
            Self::Parked => "parked",
            Self::Auto => "auto",
        }
    }
}

/// Which listener of a generation gets a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WorkerChoice {
    /// The one that the kernel's hash names.
    Hash,
    /// The one of the CPU at which the connection arrives.
    Cpu,
    /// The one with the fewest open connections.
    Least,
    /// The one that the hash names, until clients wait at one listener while another's queue is empty; then the one
    /// with the fewest open connections.
    #[default]
    Auto,
}

impl WorkerChoice {
    /// As the kernel programs know it, to begin with.
    pub const fn resolve(self) -> Workers {
        match self {
            Self::Hash | Self::Auto => Workers::Hash,
            Self::Cpu => Workers::Cpu,
            Self::Least => Workers::Least,
        }
    }
}

/// What is done when somebody else's kernel program decides about a group of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum ForeignProgram {
    /// It is said, and nothing is changed: somebody wanted that.
    #[default]
    Warn,
    /// hotlb's is put back.
    Restore,
    /// hotlb's is put back, and nobody but the agent can attach one through the service's own sockets.
    Refuse,
}

/// Who may bind a service's ports on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reserve {
    /// Whoever the kernel lets.
    #[default]
    Nothing,
    /// Processes of the service's cgroups alone.
    Ports,
}

/// What happens to a bind of the service's port on an undeclared address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Undeclared {
    /// It fails.
    #[default]
    Refuse,
    /// It goes to the declared address of its family.
    Rewrite,
}

impl ServiceConfig {
    /// A service with these addresses and the usual policies.
    ///
    /// # Errors
    ///
    /// When the name or an address cannot be used.
    pub fn new(name: &str, listen: Vec<SocketAddr>) -> Result<Self, ConfigError> {
        let tcp = |address| Listen {
            udp: false,
            address,
        };
        Self::on(name, listen.into_iter().map(tcp).collect())
    }

    /// [`ServiceConfig::new`] with addresses of either protocol.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn on(name: &str, all: Vec<Listen>) -> Result<Self, ConfigError> {
        check_name(name)?;
        if all.is_empty() {
            return Err(ConfigError::NoAddress(name.to_owned()));
        }
        let mut apart = BTreeSet::new();
        for listen in &all {
            check_address(name, listen.address)?;
            if !apart.insert(listen) {
                return Err(ConfigError::Twice {
                    address: listen.to_string(),
                    service: name.to_owned(),
                });
            }
        }
        let (udp, tcp): (Vec<Listen>, Vec<Listen>) = all.into_iter().partition(|l| l.udp);
        let addresses = |all: Vec<Listen>| all.into_iter().map(|l| l.address).collect();
        Ok(Self {
            name: name.to_owned(),
            listen: addresses(tcp),
            datagrams: (!udp.is_empty()).then(|| Datagrams::new(addresses(udp))),
            netns: None,
            health: Health::Tcp,
            identity: Identity::root(),
            hand_over: HandOver::default(),
            notify: false,
            undeclared: Undeclared::default(),
            reserve: Reserve::default(),
            foreign_program: ForeignProgram::default(),
            ready_timeout: Duration::from_secs(30),
            drain: DrainPolicy::default(),
            bake: Duration::ZERO,
            keep: KeepPolicy::default(),
            adopt: false,
            latency: true,
            profiles: None,
            incidents: IncidentPolicy::default(),
            workers: WorkerChoice::default(),
            hung_worker_after: Some(Duration::from_secs(5)),
            hooks: Vec::new(),
        })
    }

    /// Has it be in the network namespace that the file `netns` stands for.
    ///
    /// # Errors
    ///
    /// When that is not a whole path.
    pub fn enter(&mut self, netns: PathBuf) -> Result<(), ConfigError> {
        if !netns.is_absolute() {
            return Err(ConfigError::Value {
                service: self.name.clone(),
                key: "netns",
                reason: format!(
                    "\"{}\" is not an absolute path, such as \"/run/netns/blue\" or \
                     \"/proc/1234/ns/net\"",
                    netns.display()
                ),
            });
        }
        self.netns = Some(netns);
        Ok(())
    }

    /// Has a candidate asked for `path` by HTTP.
    ///
    /// # Errors
    ///
    /// When the path has no leading slash.
    pub fn ask_for(&mut self, path: String) -> Result<(), ConfigError> {
        self.health = Health::http(path).map_err(|reason| ConfigError::Value {
            service: self.name.clone(),
            key: "health.http",
            reason,
        })?;
        Ok(())
    }

    /// All its addresses, TCP first.
    pub fn addresses(&self) -> impl Iterator<Item = Listen> {
        let of = |udp| move |&address: &SocketAddr| Listen { udp, address };
        let datagrams = self.datagrams.iter().flat_map(|d| &d.listen);
        self.listen
            .iter()
            .map(of(false))
            .chain(datagrams.map(of(true)))
    }

    /// The socket a server is expected to open at `address`: dual-stack for an IPv6 wildcard
    /// that is declared alone, v6only where the IPv4 wildcard of the same port is declared too.
    pub fn group_key(&self, address: SocketAddr) -> GroupKey {
        let beside_v4 = self
            .listen
            .iter()
            .any(|other| other.is_ipv4() && other.port() == address.port());
        let v6only = address.is_ipv6() && (beside_v4 || !address.ip().is_unspecified());
        GroupKey {
            address,
            v6only,
            uid: self.identity.uid,
        }
    }
}

fn check_address(service: &str, address: SocketAddr) -> Result<(), ConfigError> {
    let reason = if address.port() == 0 {
        "a port is required"
    } else if address.ip().is_multicast() {
        "it is a multicast address"
    } else {
        return Ok(());
    };
    Err(ConfigError::Address {
        service: service.to_owned(),
        address,
        reason,
    })
}

/// The longest name of a service or generation.
pub const SERVICE_NAME_LENGTH: usize = 40;

/// Names become directories (cgroup, bpffs: no dots), labels and terminal output.
pub fn check_name(name: &str) -> Result<(), ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.len() <= SERVICE_NAME_LENGTH && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(ConfigError::Name(name.escape_debug().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(listen: &[&str]) -> Result<ServiceConfig, ConfigError> {
        ServiceConfig::new("web", listen.iter().map(|a| a.parse().unwrap()).collect())
    }

    #[test]
    fn an_ipv6_wildcard_alone_is_dual_stack() {
        let v6only = |listen: &[&str]| {
            let service = service(listen).unwrap();
            let address = *service.listen.last().unwrap();
            service.group_key(address).v6only
        };
        assert!(!v6only(&["[::]:80"]));
        assert!(!v6only(&["0.0.0.0:81", "[::]:80"]));
        assert!(v6only(&["0.0.0.0:80", "[::]:80"]));
        assert!(v6only(&["[::1]:80"]));
        assert!(!v6only(&["0.0.0.0:80"]));
    }

    #[test]
    fn refuses_what_cannot_be_listened_on() {
        assert!(matches!(service(&[]), Err(ConfigError::NoAddress(_))));
        assert!(matches!(
            service(&["0.0.0.0:0"]),
            Err(ConfigError::Address { .. })
        ));
        assert!(matches!(
            service(&["224.0.0.1:80"]),
            Err(ConfigError::Address { .. })
        ));
    }

    #[test]
    fn refuses_names_that_are_no_directories() {
        for name in [
            "",
            "a.b",
            "a/b",
            "..",
            "-a",
            "a b",
            "\u{1b}[31m",
            &"x".repeat(41),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["web", "gen1", "2026-11-22_a", &"x".repeat(40)] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
