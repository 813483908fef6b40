//! `health`: how a candidate is asked whether it serves.

use serde::{Deserialize, Serialize};

use super::command_line::CommandLine;

/// How a candidate is asked whether it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// A connection that the server accepts.
    Tcp,
    /// A GET of this path that is answered with a status of 200 to 399.
    Http(String),
    /// The gRPC health service says SERVING for this service; "" is the whole server.
    Grpc(String),
    /// A connection, and then this program, with its arguments, that ends with exit code 0.
    Exec(Vec<String>),
}

impl Health {
    /// A GET of `path`.
    ///
    /// # Errors
    ///
    /// What is wrong with the path.
    pub fn http(path: String) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_graphic();
        if !path.starts_with('/') {
            Err(format!("\"{path}\" must begin with a slash"))
        } else if path.chars().all(is_plain) {
            Ok(Self::Http(path))
        } else {
            Err(format!(
                "{path:?} is not a valid request path: write spaces and other special characters \
                 like %20"
            ))
        }
    }
}

/// The table: exactly one key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    tcp: Option<bool>,
    http: Option<String>,
    grpc: Option<String>,
    exec: Option<CommandLine>,
}

/// `health = { … }`.
#[derive(Deserialize)]
#[serde(try_from = "Keys")]
pub(super) struct HealthTable(pub(super) Health);

impl TryFrom<Keys> for HealthTable {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, Self::Error> {
        let health = match keys {
            Keys {
                tcp: Some(tcp),
                http: None,
                grpc: None,
                exec: None,
            } => tcp
                .then_some(Health::Tcp)
                .ok_or("tcp = false checks nothing; omit health, or write tcp = true")?,
            Keys {
                tcp: None,
                http: Some(path),
                grpc: None,
                exec: None,
            } => Health::http(path).map_err(|error| format!("health.http: {error}"))?,
            Keys {
                tcp: None,
                http: None,
                grpc: Some(service),
                exec: None,
            } => Health::Grpc(service),
            Keys {
                tcp: None,
                http: None,
                grpc: None,
                exec: Some(CommandLine(command)),
            } => match command.first() {
                Some(program) if !program.is_empty() => Health::Exec(command),
                _ => return Err("health.exec is empty; name the program to run".to_owned()),
            },
            _ => {
                return Err(
                    "health must have exactly one of tcp = true, http = \"/path\", grpc = \
                     \"service\" and exec = [\"program\"]"
                        .to_owned(),
                );
            }
        };
        Ok(Self(health))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        health: HealthTable,
    }

    fn parse(text: &str) -> Result<Health, String> {
        toml::from_str::<File>(text)
            .map(|file| file.health.0)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn there_are_four_ways_to_ask() {
        let cases = [
            ("{ tcp = true }", Health::Tcp),
            ("{ http = \"/healthz\" }", Health::Http("/healthz".into())),
            ("{ grpc = \"\" }", Health::Grpc(String::new())),
            ("{ grpc = \"shop.Cart\" }", Health::Grpc("shop.Cart".into())),
            (
                "{ exec = [\"check\", \"-v\"] }",
                Health::Exec(vec!["check".into(), "-v".into()]),
            ),
            (
                "{ exec = \"check -v\" }",
                Health::Exec(vec!["/bin/sh".into(), "-c".into(), "check -v".into()]),
            ),
        ];
        for (text, health) in cases {
            assert_eq!(parse(&format!("health = {text}")), Ok(health));
        }
    }

    #[test]
    fn one_of_them_at_a_time() {
        let cases = [
            ("{}", "exactly one of"),
            ("{ tcp = true, http = \"/\" }", "exactly one of"),
            ("{ grpc = \"\", exec = [\"true\"] }", "exactly one of"),
            ("{ tcp = false }", "omit health"),
            ("{ http = \"healthz\" }", "must begin with a slash"),
            ("{ exec = [] }", "health.exec is empty"),
            ("{ exec = [\"\"] }", "health.exec is empty"),
            ("{ exec = \" \" }", "health.exec is empty"),
            ("{ exec = 1 }", "a shell command, or [\"program\""),
            ("{ https = \"/\" }", "unknown field `https`"),
        ];
        for (text, expected) in cases {
            let error = parse(&format!("health = {text}")).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
