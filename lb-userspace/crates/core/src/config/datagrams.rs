//! The UDP side of a service.

use std::{fmt, net::SocketAddr, time::Duration};

use lb_common::{
    GenerationId,
    quic::{Quic, SERVER_ID_MOST, ServerIdOctets},
};
use serde::{Deserialize, Serialize};

use super::{ConfigError, Health, policy_tables::Span, service::HandOver};

/// Where a service takes datagrams, and how long a client stays with its generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// Its addresses; one reuseport group each.
    pub listen: Vec<SocketAddr>,
    /// What makes a flow.
    pub flow: FlowMode,
    /// After how long without a datagram a flow is none any more.
    pub idle: Duration,
    /// Room for so many flows.
    pub table: u32,
    /// How many octets of a QUIC connection's id say which generation it is with; `None` if servers
    /// are not asked to have them say so.
    pub quic_server_id: Option<ServerIdOctets>,
}

/// What keeps a UDP client with its generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum FlowMode {
    /// The addresses and ports of both sides.
    #[default]
    Tuple,
    /// The addresses and ports, and the ids of QUIC connections: a client may change its address.
    Quic,
    /// Nothing: the steering word decides for each datagram, as for DNS.
    None,
}

impl FlowMode {
    /// The name in the configuration and in `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tuple => "tuple",
            Self::Quic => "quic",
            Self::None => "none",
        }
    }
}

/// How long a flow may be idle unless configured: longer than clients and their routers remember
/// it (RFC 4787 asks for two minutes).
pub(super) const FLOW_IDLE: Duration = Duration::from_secs(125);
/// Room for flows unless configured: about 7 MB.
pub(super) const FLOW_TABLE: u32 = 65536;

const IDLE_LEAST: Duration = Duration::from_millis(100);
const IDLE_MOST: Duration = Duration::from_hours(24);
const TABLE_LEAST: u32 = 64;
const TABLE_MOST: u32 = 1 << 22;

impl Datagrams {
    /// These addresses, with the usual policy.
    pub fn new(listen: Vec<SocketAddr>) -> Self {
        Self {
            listen,
            flow: FlowMode::default(),
            idle: FLOW_IDLE,
            table: FLOW_TABLE,
            quic_server_id: None,
        }
    }

    /// How connections of QUIC are told apart; `None` where nobody looks at their ids.
    pub fn quic(&self) -> Option<Quic> {
        (self.flow == FlowMode::Quic).then_some(Quic {
            server_id: self.quic_server_id,
        })
    }

    /// After how long without a datagram a flow is none any more; `None` where there are no flows.
    pub fn kept_for(&self) -> Option<Duration> {
        (self.flow != FlowMode::None).then_some(self.idle)
    }
}

/// The environment variable that tells a server what the ids of its QUIC connections are to say.
const SERVER_ID: &str = "HOTLB_QUIC_SERVER_ID";

impl Datagrams {
    /// What a server of the generation finds in its environment: its id in hexadecimal digits, two an
    /// octet. `None` if it is asked for nothing.
    pub fn server_id(&self, generation: GenerationId) -> Option<(String, String)> {
        let octets = self.quic()?.server_id?;
        let digits = 2 * usize::from(octets.get());
        let id = octets.of(generation);
        Some((SERVER_ID.to_owned(), format!("{id:0digits$x}")))
    }
}

/// One address of `listen`: `0.0.0.0:80`, `udp://0.0.0.0:53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen {
    /// Whether it is of UDP.
    pub udp: bool,
    /// Address and port.
    pub address: SocketAddr,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.udp { "udp://" } else { "" };
        write!(f, "{scheme}{}", self.address)
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (udp, address) = match text.split_once("://") {
            Some(("udp", address)) => (true, address),
            Some(("tcp", address)) => (false, address),
            _ => (false, text.as_str()),
        };
        let address = address.parse().map_err(|_bad| {
            format!(
                "\"{text}\" is not an address with a port, such as \"0.0.0.0:8080\", \"[::]:8080\" \
                 or \"udp://0.0.0.0:53\""
            )
        })?;
        Ok(Self { udp, address })
    }
}

/// The keys of a service that are about flows.
#[derive(Default)]
pub(super) struct FlowKeys {
    pub(super) flow: Option<FlowMode>,
    pub(super) idle: Option<Span>,
    pub(super) table: Option<u32>,
    pub(super) quic_server_id: Option<u8>,
}

impl FlowKeys {
    /// Sets what they say; the key that cannot be, and why.
    pub(super) fn apply(
        self,
        datagrams: Option<&mut Datagrams>,
    ) -> Result<(), (&'static str, String)> {
        let Some(datagrams) = datagrams else {
            let named = [
                ("flow", self.flow.is_some()),
                ("flow_idle", self.idle.is_some()),
                ("flow_table", self.table.is_some()),
                ("quic_server_id", self.quic_server_id.is_some()),
            ];
            return match named.iter().find(|(_, is_named)| *is_named) {
                Some((key, _)) => Err((*key, "only udp:// addresses have flows".to_owned())),
                None => Ok(()),
            };
        };
        datagrams.flow = self.flow.unwrap_or_default();
        if let Some(Span(idle)) = self.idle {
            if !(IDLE_LEAST..=IDLE_MOST).contains(&idle) {
                return Err(("flow_idle", "between 100ms and 24h".to_owned()));
            }
            datagrams.idle = idle;
        }
        if let Some(table) = self.table {
            if !(TABLE_LEAST..=TABLE_MOST).contains(&table) {
                return Err((
                    "flow_table",
                    format!("between {TABLE_LEAST} and {TABLE_MOST}"),
                ));
            }
            datagrams.table = table;
        }
        if let Some(octets) = self.quic_server_id {
            if datagrams.flow != FlowMode::Quic {
                return Err((
                    "quic_server_id",
                    "connection ids are used with flow = \"quic\" only: set that, or omit this key"
                        .to_owned(),
                ));
            }
            let octets = ServerIdOctets::new(octets).ok_or((
                "quic_server_id",
                format!("between 1 and {SERVER_ID_MOST} octets, as a number"),
            ))?;
            datagrams.quic_server_id = Some(octets);
        }
        Ok(())
    }
}

/// What a service with UDP cannot be like.
pub(super) fn check(
    service: &str,
    has_tcp: bool,
    health: &Health,
    hand_over: HandOver,
) -> Result<(), ConfigError> {
    let refuse = |key, reason: &str| {
        Err(ConfigError::Value {
            service: service.to_owned(),
            key,
            reason: reason.to_owned(),
        })
    };
    let asks = matches!(health, Health::Http(_) | Health::Grpc(_));
    if asks && !has_tcp {
        return refuse(
            "health",
            "a service with udp:// addresses only cannot be asked over TCP: use health = { exec = \
             \"COMMAND\" }, or omit it",
        );
    }
    if hand_over == HandOver::Inherit {
        return refuse(
            "mode",
            "\"inherit\" passes on TCP listeners only: a server with udp:// addresses opens its \
             sockets itself",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, ServiceConfig};

    fn parse(text: &str) -> Result<ServiceConfig, String> {
        let text = format!("[service.dns]\n{text}\n");
        Config::parse(&text, Path::new("hotlb.toml"))
            .map(|mut config| config.services.remove(0))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn udp_and_tcp_of_one_port_are_two_addresses() {
        let dns = parse("listen = [\"udp://0.0.0.0:53\", \"tcp://0.0.0.0:53\", \"[::]:53\"]");
        let dns = dns.unwrap();
        assert_eq!(dns.listen.len(), 2);
        let datagrams = dns.datagrams.unwrap();
        assert_eq!(datagrams.listen, ["0.0.0.0:53".parse().unwrap()]);
        assert_eq!(datagrams.kept_for(), Some(FLOW_IDLE));
        assert_eq!(datagrams.table, FLOW_TABLE);
    }

    #[test]
    fn reads_the_keys_of_flows() {
        let dns = parse(
            "listen = [\"udp://0.0.0.0:53\"]\nflow = \"tuple\"\nflow_idle = \"2s\"\nflow_table = 128",
        );
        let datagrams = dns.unwrap().datagrams.unwrap();
        assert_eq!(datagrams.idle, Duration::from_secs(2));
        assert_eq!(datagrams.table, 128);
        let dns = parse("listen = [\"udp://0.0.0.0:53\"]\nflow = \"none\"").unwrap();
        assert_eq!(dns.datagrams.unwrap().kept_for(), None);
    }

    #[test]
    fn tells_a_server_what_its_ids_are_to_say() {
        let quic = |keys: &str| {
            let text = format!("listen = [\"udp://0.0.0.0:443\"]\n{keys}");
            parse(&text).unwrap().datagrams.unwrap()
        };
        let generation = GenerationId::new(0x1_2345).unwrap();
        for (octets, expected) in [(1, "45"), (2, "2345"), (4, "00012345")] {
            let told = quic(&format!("flow = \"quic\"\nquic_server_id = {octets}"));
            let (name, id) = told.server_id(generation).unwrap();
            assert_eq!((&*name, &*id), ("HOTLB_QUIC_SERVER_ID", expected));
            assert_eq!(told.kept_for(), Some(FLOW_IDLE));
        }
        let learned = quic("flow = \"quic\"");
        assert_eq!(learned.server_id(generation), None);
        assert!(learned.quic().is_some() && quic("").quic().is_none());
    }

    #[test]
    fn says_what_udp_cannot_be() {
        let udp = "listen = [\"udp://0.0.0.0:53\"]\n";
        let cases = [
            (
                "listen = [\"0.0.0.0:53\"]\nflow = \"none\"",
                "only udp:// addresses have flows",
            ),
            (
                "listen = [\"0.0.0.0:53\"]\nflow_table = 100",
                "flow_table: only udp://",
            ),
            (
                "listen = [\"quic://0.0.0.0:53\"]",
                "is not an address with a port",
            ),
            ("listen = [\"udp://0.0.0.0:0\"]", "a port is required"),
            (
                &format!("{udp}flow_idle = \"1ms\""),
                "flow_idle: between 100ms and 24h",
            ),
            (
                &format!("{udp}flow_table = 8"),
                "flow_table: between 64 and",
            ),
            (
                &format!("{udp}quic_server_id = 2"),
                "quic_server_id: connection ids are used with flow = \"quic\" only",
            ),
            (
                &format!("{udp}flow = \"quic\"\nquic_server_id = 5"),
                "quic_server_id: between 1 and 4 octets",
            ),
            (
                &format!("{udp}flow = \"sticky\""),
                "unknown variant `sticky`",
            ),
            (
                &format!("{udp}mode = \"inherit\""),
                "passes on TCP listeners only",
            ),
            (
                &format!("{udp}health = {{ http = \"/\" }}"),
                "cannot be asked over TCP",
            ),
            (
                "listen = [\"udp://0.0.0.0:53\", \"udp://0.0.0.0:53\"]",
                "service dns lists udp://0.0.0.0:53 twice",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
