//! What is typed, where it is not text: said with the name of what is wrong, before anything is
//! asked of the agent.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use hotlb_api::{client::ClientError, wire::Failure};

use super::{
    args::{Cli, OutputFormat},
    output,
};

impl Cli {
    /// The command line of this process. Does not return if it asks for help.
    ///
    /// # Errors
    ///
    /// It is wrong, which has been said.
    pub fn typed() -> Result<Self, ExitCode> {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        Self::try_parse_from(&arguments)
            .map_err(|error| refuse(&name_argument(error, &arguments), &arguments))
    }
}

/// Wrong usage, or help: for programs on stdout, where they look for an answer.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if error.use_stderr() && asks_for_json(arguments) {
        let said = error.to_string();
        let said = said.trim_start_matches("error: ").trim_end();
        let failure = usage_failure(said.to_owned());
        output::failure(OutputFormat::Json, &failure);
        return ExitCode::from(failure.exit);
    }
    error.exit()
}

/// Whether JSON was asked for, in arguments of which clap understood too little to say it. What comes
/// after `--` is a server's.
fn asks_for_json(arguments: &[OsString]) -> bool {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    let own: Vec<&OsString> = own.collect();
    let joined = ["-ojson", "-o=json", "--output=json"];
    let is_apart = |pair: &[&OsString]| match pair {
        [option, value] => (*option == "-o" || *option == "--output") && *value == "json",
        _ => false,
    };
    own.iter()
        .any(|argument| joined.iter().any(|it| *argument == it))
        || own.windows(2).any(is_apart)
}

/// clap says that one of the arguments is not UTF-8, but not which.
fn name_argument(error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let mut numbered = arguments.iter().enumerate();
    let bad = numbered.find(|(_, argument)| argument.to_str().is_none());
    match bad.filter(|_| error.kind() == ErrorKind::InvalidUtf8) {
        Some((number, argument)) => Cli::command().error(
            ErrorKind::InvalidUtf8,
            format!(
                "argument {number}, \"{}\", is not UTF-8, but requests to the agent must be: \
                 rename what it names, or start the server from a script that has this argument",
                argument.as_encoded_bytes().escape_ascii()
            ),
        ),
        None => error,
    }
}

/// The directory the agent is to start a command in: this one.
///
/// # Errors
///
/// It is gone, or its name is not UTF-8.
pub(super) fn here() -> Result<PathBuf, ClientError> {
    let here = std::env::current_dir().map_err(|error| {
        usage(format!(
            "cannot determine the current directory ({error}), in which the server would be \
             started: cd to a directory that exists"
        ))
    })?;
    text(here, "the current directory")
}

/// The path, if it can be told to the agent.
///
/// # Errors
///
/// Its name is not UTF-8.
pub(super) fn text(path: PathBuf, what: &str) -> Result<PathBuf, ClientError> {
    if path.to_str().is_some() {
        return Ok(path);
    }
    let shown = path.as_os_str().as_encoded_bytes().escape_ascii();
    Err(usage(format!(
        "{what}, \"{shown}\", has a name that is not UTF-8, but requests to the agent must be: \
         rename it, or use another one"
    )))
}

fn usage(message: String) -> ClientError {
    ClientError::Refused(usage_failure(message))
}

fn usage_failure(message: String) -> Failure {
    Failure {
        code: "usage".to_owned(),
        message,
        exit: 2,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn what_is_not_utf_8_is_named() {
        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let mut typed = ["hotlb", "deploy", "--", "server"]
            .map(OsString::from)
            .to_vec();
        typed.push(bytes(b"--root=caf\xe9"));
        let error = Cli::try_parse_from(&typed).unwrap_err();
        let said = name_argument(error, &typed).to_string();
        assert!(said.contains("argument 4, \"--root=caf\\xe9\""), "{said}");
        let other = Cli::try_parse_from(["hotlb", "deploy"]).unwrap_err();
        let said = name_argument(other, &typed).to_string();
        assert!(!said.contains("argument 4"), "{said}");
        let path = PathBuf::from(bytes(b"/srv/caf\xe9"));
        let error = text(path, "the current directory").unwrap_err();
        assert_eq!(error.exit(), 2);
        assert!(error.to_string().contains("/srv/caf\\xe9"), "{error}");
    }
}
