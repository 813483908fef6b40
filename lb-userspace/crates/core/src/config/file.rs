//! `hotlb.toml`.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use hotlb_sys::users::Identity;
use serde::Deserialize;

use super::{
    ConfigError, LogConfig, Retention, TracesConfig,
    datagrams::{self, FlowKeys, FlowMode, Listen},
    health::HealthTable,
    history::HistoryTable,
    hook_tables::HookTables,
    incidents::{IncidentRetention, IncidentRetentionTable, Incidents},
    log::LogTable,
    policy_tables::{DrainTable, Keep, Span},
    profiling::ProfileTable,
    service::{ForeignProgram, HandOver, Reserve, ServiceConfig, Undeclared, WorkerChoice},
    traces::TracesTable,
};

/// A whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent's own part.
    pub agent: AgentConfig,
    /// The services, by name.
    pub services: Vec<ServiceConfig>,
}

/// `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Where Prometheus scrapes; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// How long the metrics show a generation that has ended.
    pub metrics_expire: Duration,
    /// Users who may operate, beside root and the agent's own.
    pub operators: Vec<String>,
    /// How much of the history is kept.
    pub history: Retention,
    /// How many incidents are kept.
    pub incidents: IncidentRetention,
    /// Where traces go, if `[traces]` says so.
    pub traces: Option<TracesConfig>,
    /// How it logs.
    pub log: LogConfig,
}

/// An address, or "off".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum MetricsAddress {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

const METRICS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9464);

/// How long the metrics show a generation that has ended, unless configured.
pub const METRICS_EXPIRE: Duration = Duration::from_mins(10);

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            metrics: Some(METRICS),
            metrics_expire: METRICS_EXPIRE,
            operators: Vec::new(),
            history: Retention::default(),
            incidents: IncidentRetention::default(),
            traces: None,
            log: LogConfig::default(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    agent: AgentTable,
    traces: Option<TracesTable>,
    #[serde(default)]
    log: LogTable,
    #[serde(default)]
    service: BTreeMap<String, ServiceTable>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct AgentTable {
    metrics: Option<MetricsAddress>,
    metrics_expire: Option<Span>,
    #[serde(default)]
    operators: Vec<String>,
    #[serde(default)]
    history: HistoryTable,
    #[serde(default)]
    incidents: IncidentRetentionTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceTable {
    listen: Vec<Listen>,
    flow: Option<FlowMode>,
    flow_idle: Option<Span>,
    flow_table: Option<u32>,
    quic_server_id: Option<u8>,
    netns: Option<PathBuf>,
    health: Option<HealthTable>,
    user: Option<String>,
    group: Option<String>,
    #[serde(default)]
    mode: HandOver,
    #[serde(default)]
    notify: bool,
    #[serde(default)]
    bind: Undeclared,
    #[serde(default)]
    reserve: bool,
    #[serde(default)]
    foreign_program: ForeignProgram,
    ready_timeout: Option<Span>,
    #[serde(default)]
    drain: DrainTable,
    bake: Option<Span>,
    keep: Option<Keep>,
    #[serde(default)]
    adopt: bool,
    latency: Option<bool>,
    profile: Option<ProfileTable>,
    incidents: Option<Incidents>,
    #[serde(default)]
    workers: WorkerChoice,
    hung_worker_after: Option<Span>,
    #[serde(default)]
    hooks: HookTables,
}

impl TryFrom<String> for MetricsAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse()
            .map(Self::At)
            .map_err(|_bad| format!("\"{text}\" is neither ADDRESS:PORT nor \"off\""))
    }
}

impl MetricsAddress {
    /// The address, if any.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`]; line and column where the text is at fault.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks `text`, which was read from `path`.
    ///
    /// # Errors
    ///
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| malformed(text, path, &error))?;
        if file.service.is_empty() {
            return Err(ConfigError::NoService(path.to_owned()));
        }
        let services = file
            .service
            .into_iter()
            .map(|(name, table)| resolve(&name, table))
            .collect::<Result<Vec<_>, _>>()?;
        check_apart(&services)?;
        Ok(Self {
            agent: AgentConfig {
                metrics: file
                    .agent
                    .metrics
                    .map_or(Some(METRICS), MetricsAddress::address),
                metrics_expire: file
                    .agent
                    .metrics_expire
                    .map_or(METRICS_EXPIRE, |Span(expire)| expire),
                operators: file.agent.operators,
                history: file.agent.history.resolve(),
                incidents: file.agent.incidents.resolve(),
                traces: file.traces.map(TracesTable::resolve),
                log: file.log.resolve(),
            },
            services,
        })
    }
}

fn resolve(name: &str, table: ServiceTable) -> Result<ServiceConfig, ConfigError> {
    let mut service = ServiceConfig::on(name, table.listen)?;
    if let Some(netns) = table.netns {
        service.enter(netns)?;
    }
    let flows = FlowKeys {
        flow: table.flow,
        idle: table.flow_idle,
        table: table.flow_table,
        quic_server_id: table.quic_server_id,
    };
    flows
        .apply(service.datagrams.as_mut())
        .map_err(|(key, reason)| ConfigError::Value {
            service: name.to_owned(),
            key,
            reason,
        })?;
    if let Some(HealthTable(health)) = table.health {
        service.health = health;
    }
    service.hooks = table.hooks.into_hooks();
    if table.user.is_some() || table.group.is_some() {
        let user = table.user.as_deref().unwrap_or("root");
        service.identity = Identity::resolve(user, table.group.as_deref()).map_err(|source| {
            ConfigError::Identity {
                service: name.to_owned(),
                source,
            }
        })?;
    }
    service.drain = table.drain.resolve();
    if let Some(Span(timeout)) = table.ready_timeout {
        service.ready_timeout = timeout;
    }
    if let Some(Span(bake)) = table.bake {
        service.bake = bake;
    }
    if let Some(keep) = table.keep {
        service.keep = keep.resolve().map_err(|reason| ConfigError::Value {
            service: name.to_owned(),
            key: "keep",
            reason,
        })?;
    }
    service.hand_over = table.mode;
    service.notify = table.notify;
    service.undeclared = table.bind;
    service.foreign_program = table.foreign_program;
    service.adopt = table.adopt;
    if table.reserve {
        service.reserve = Reserve::Ports;
    }
    if table.reserve && table.adopt {
        return Err(ConfigError::Value {
            service: name.to_owned(),
            key: "reserve",
            reason: "a server that is to be adopted, or that its supervisor starts again, could not bind the ports: \
                     leave out reserve, or adopt"
                .to_owned(),
        });
    }
    service.profiles = table.profile.and_then(ProfileTable::resolve);
    service.workers = table.workers;
    if let Some(Span(after)) = table.hung_worker_after {
        service.hung_worker_after = Some(after).filter(|after| !after.is_zero());
    }
    service.latency = table.latency.unwrap_or(service.latency);
    if let Some(incidents) = table.incidents {
        service.incidents = incidents.resolve().map_err(|reason| ConfigError::Value {
            service: name.to_owned(),
            key: "incidents",
            reason,
        })?;
    }
    if service.datagrams.is_some() {
        let has_tcp = !service.listen.is_empty();
        datagrams::check(name, has_tcp, &service.health, service.hand_over)?;
    }
    Ok(service)
}

/// An address of a network belongs to one service.
fn check_apart(services: &[ServiceConfig]) -> Result<(), ConfigError> {
    let mut owners: BTreeMap<(Option<&Path>, Listen), &str> = BTreeMap::new();
    for service in services {
        for address in service.addresses() {
            let place = (service.netns.as_deref(), address);
            if let Some(first) = owners.insert(place, &service.name) {
                return Err(ConfigError::Shared {
                    address: address.to_string(),
                    first: first.to_owned(),
                    second: service.name.clone(),
                });
            }
        }
    }
    Ok(())
}

fn malformed(text: &str, path: &Path, error: &toml::de::Error) -> ConfigError {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    ConfigError::Malformed {
        path: PathBuf::from(path),
        line: before.matches('\n').count() + 1,
        column: before.chars().rev().take_while(|&c| c != '\n').count() + 1,
        message: printable(&error.message().replace('\n', " ")),
    }
}

/// The message quotes the file; a terminal is to show what stands there, not to obey it.
fn printable(message: &str) -> String {
    let escape = |c: char| {
        let escaped = c.is_control().then(|| c.escape_default());
        let plain = (!c.is_control()).then_some(c);
        escaped.into_iter().flatten().chain(plain)
    };
    message.chars().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;
    use crate::config::{Health, KeepPolicy, LogFormat, PoliteMode};

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("hotlb.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_everything_there_is() {
        let config = parse(
            r#"
            [agent]
            metrics = "off"
            metrics_expire = "1m"
            operators = ["deploy"]
            history = { rollouts = 5, for = "1d" }
            [traces]
            endpoint = "http://127.0.0.1:4317"
            [log]
            format = "json"
            level = "warn,hotlb::agent=debug"
            [service.web]
            listen = ["0.0.0.0:8080", "[::]:8080"]
            health = { http = "/healthz" }
            user = "root"
            mode = "inherit"
            notify = true
            bind = "rewrite"
            ready_timeout = "5s"
            drain = { signal = "quit", signal_after = "0s", deadline = "1m 30s", polite = "off" }
            bake = "30s"
            keep = { generations = 2, for = "1h", freeze = true }
            adopt = true
            [service.web.hooks]
            validate = "check"
            "#,
        )
        .unwrap();
        assert_eq!(config.agent.metrics, None);
        assert_eq!(config.agent.metrics_expire, Duration::from_mins(1));
        let history = config.agent.history;
        assert_eq!(
            (history.rollouts, history.age),
            (5, Duration::from_hours(24))
        );
        let traces = config.agent.traces.unwrap();
        assert_eq!(traces.endpoint, "http://127.0.0.1:4317");
        assert_eq!(config.agent.log.format, LogFormat::Json);
        let web = &config.services[0];
        assert_eq!(web.health, Health::Http("/healthz".into()));
        assert_eq!(web.drain.signal, Some(Signal::SIGQUIT));
        assert_eq!(web.drain.deadline, Duration::from_secs(90));
        assert_eq!(web.drain.polite, PoliteMode::Off);
        assert_eq!(
            (web.hand_over, web.undeclared),
            (HandOver::Inherit, Undeclared::Rewrite)
        );
        assert_eq!(web.bake, Duration::from_secs(30));
        let kept = KeepPolicy {
            generations: 2,
            time: Duration::from_hours(1),
            freeze: true,
        };
        assert_eq!(web.keep, kept);
        assert!(web.adopt);
        assert_eq!(web.hooks.len(), 1);
    }

    #[test]
    fn says_where_and_what_is_wrong() {
        let cases = [
            ("[service.web]\nlisten = [\"0.0.0.0:80\"\n", "hotlb.toml:"),
            (
                "[service.web]\nlisten = [\"0.0.0.0:80\"]\nlitsen = 1\n",
                "hotlb.toml:3:1: unknown field `litsen`",
            ),
            (
                "[service.web]\nlisten = [\"0.0.0.0\"]\n",
                "hotlb.toml:2:10: \"0.0.0.0\" is not an address with a port",
            ),
            (
                "[service.web]\nlisten = [\"0.0.0.0:80\"]\nkeep = \"soon\"\n",
                "keep: \"soon\" is not a duration",
            ),
            (
                "[service.web]\nlisten = [\"0.0.0.0:80\"]\ndrain = { signal = \"HUHU\" }\n",
                "\"HUHU\" is not a signal",
            ),
            (
                "[service.web]\nlisten = [\"0.0.0.0:80\"]\nuser = \"no-such-user\"\n",
                "user \"no-such-user\" does not exist",
            ),
            (
                "[service.web]\nlisten = [\"0.0.0.0:80\"]\nhealth = { http = \"x\" }\n",
                "hotlb.toml:3:10: health.http: \"x\" must begin with a slash",
            ),
            (
                "[service.web]\nlisten = [\"0.0.0.0:80\"]\nhooks.swap = { command = \"a\", deadline = \"0s\" }\n",
                "hotlb.toml:3:14: a swap hook cannot have a deadline of 0s",
            ),
            (
                "[service.web]\nlisten = [\"0.0.0.0:80\"]\n[service.api]\nlisten = [\"0.0.0.0:80\"]\n",
                "services api and web both listen on 0.0.0.0:80",
            ),
            (
                "[service.\"a.b\"]\nlisten = [\"0.0.0.0:80\"]\n",
                "\"a.b\" is not a valid name",
            ),
            ("[service.web]\n", "missing field `listen`"),
            ("[agent]\nhistory = { rollouts = 0 }\n", "hotlb.toml:2:24: "),
            ("[agent]\nhistory = { for = \"0s\" }\n", "hotlb.toml:2:19: "),
            ("[agent]\nhistory = { age = \"1d\" }\n", "hotlb.toml:2:13: "),
            (
                "[traces]\nendpoint = \"https://a:1\"\n",
                "hotlb.toml:2:12: \"https://a:1\" is not an endpoint",
            ),
            (
                "[log]\nlevel = \"loud=very\"\n",
                "hotlb.toml:2:9: \"loud=very\" is not a log level",
            ),
            ("", "no service is configured"),
            (
                "[agent]\nmetrics = \"\\u001b[2J\"\n",
                "\"\\u{1b}[2J\" is neither",
            ),
            (
                "[agent]\nmetrics = \"here\"\n",
                "neither ADDRESS:PORT nor \"off\"",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
