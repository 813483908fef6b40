//! What follows `--output`: how to print, or for a profile a file.

use std::{convert::Infallible, path::PathBuf, str::FromStr};

use clap::{CommandFactory as _, error::ErrorKind};

use super::{
    args::{Cli, Command, OutputFormat},
    incidents::{IncidentsArgs, IncidentsVerb},
};

/// What follows `--output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Print so.
    Format(OutputFormat),
    /// Write here; "-" is stdout.
    File(PathBuf),
}

impl Default for Destination {
    fn default() -> Self {
        Self::Format(OutputFormat::Table)
    }
}

impl FromStr for Destination {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "table" => Self::Format(OutputFormat::Table),
            "json" => Self::Format(OutputFormat::Json),
            path => Self::File(path.into()),
        })
    }
}

impl Cli {
    /// How this command prints. The file goes to the one command that writes one; for any other
    /// it is wrong usage.
    ///
    /// # Errors
    ///
    /// What clap says of wrong usage.
    pub fn settle_output(&mut self) -> Result<OutputFormat, clap::Error> {
        match (std::mem::take(&mut self.output), &mut self.command) {
            (Destination::Format(format), _) => Ok(format),
            (Destination::File(path), Command::Profile(args)) => {
                args.file = Some(path);
                Ok(OutputFormat::Table)
            }
            (
                Destination::File(path),
                Command::Incidents(IncidentsArgs {
                    verb: Some(IncidentsVerb::Show(show)),
                    ..
                }),
            ) => {
                show.file = Some(path);
                Ok(OutputFormat::Table)
            }
            (Destination::File(path), _) => {
                let path = path.to_string_lossy();
                Err(Self::command().error(
                    ErrorKind::InvalidValue,
                    format!(
                        "invalid value '{}' for '--output': expected table or json (only `hotlb \
                         profile` and `hotlb incidents show` write a file)",
                        path.escape_debug()
                    ),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn settle(typed: &[&str]) -> Result<(Command, OutputFormat), clap::Error> {
        let mut cli = Cli::try_parse_from([&["hotlb"], typed].concat())?;
        let format = cli.settle_output()?;
        Ok((cli.command, format))
    }

    #[test]
    fn only_a_profile_takes_a_file() {
        let (command, _) = settle(&["profile", "gen1", "-o", "a.svg"]).unwrap();
        let Command::Profile(args) = command else {
            panic!("not a profile");
        };
        assert_eq!(args.file, Some("a.svg".into()));
        let (_, format) = settle(&["status", "-o", "json"]).unwrap();
        assert_eq!(format, OutputFormat::Json);
        let error = settle(&["status", "-o", "yaml"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
