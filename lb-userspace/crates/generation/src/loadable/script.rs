//! Scripts: is the program of the first line there?

use std::path::{Path, PathBuf};

use super::{LoadableError, Program};
use crate::launch::is_executable;

/// The interpreter of the script at `path`, which begins so; `None` for what is no script, or is
/// checked already.
///
/// # Errors
///
/// When it does not exist.
pub(super) fn interpreter(
    program: Program<'_>,
    path: &Path,
    beginning: &[u8],
) -> Result<Option<PathBuf>, LoadableError> {
    let Some(line) = first_line(beginning) else {
        return Ok(None);
    };
    let line = line.trim_matches([' ', '\t']);
    let (name, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if name.is_empty() {
        return Ok(None);
    }
    let interpreter = program.cwd.join(name);
    if !interpreter.exists() {
        return Err(if name.ends_with('\r') {
            LoadableError::DosLines(path.to_owned())
        } else {
            LoadableError::NoInterpreter {
                script: path.to_owned(),
                interpreter: name.escape_debug().to_string(),
            }
        });
    }
    if interpreter.file_name().is_some_and(|name| name == "env") {
        in_path(program, path, argument.trim_matches([' ', '\t']))?;
        return Ok(None);
    }
    Ok(Some(interpreter))
}

/// What follows `#!`, if it is text and whole.
fn first_line(beginning: &[u8]) -> Option<&str> {
    let rest = beginning.strip_prefix(b"#!")?;
    let line = rest.split(|&byte| byte == b'\n').next()?;
    std::str::from_utf8(line).ok()
}

fn in_path(program: Program<'_>, script: &Path, argument: &str) -> Result<(), LoadableError> {
    let (Some(name), Some(path)) = (env_command(argument), program.env.get("PATH")) else {
        return Ok(());
    };
    if name.ends_with('\r') {
        return Err(LoadableError::DosLines(script.to_owned()));
    }
    let found = if name.contains('/') {
        is_executable(&program.cwd.join(name))
    } else {
        std::env::split_paths(path).any(|dir| is_executable(&program.cwd.join(dir).join(name)))
    };
    if found {
        return Ok(());
    }
    Err(LoadableError::NotInPath {
        script: script.to_owned(),
        name: name.escape_debug().to_string(),
        path: path.to_string_lossy().into_owned(),
    })
}

/// What `env` will run, given the one argument that the kernel makes of the rest of the line;
/// `None` where that takes more than a look.
fn env_command(argument: &str) -> Option<&str> {
    let split = argument
        .strip_prefix("-S")
        .or_else(|| argument.strip_prefix("--split-string="));
    let name = match split {
        Some(words) => words.split_whitespace().next()?,
        None => argument,
    };
    let plain = !name.is_empty() && !name.starts_with('-') && !name.contains(['=', '"', '\'', '$']);
    plain.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::env_command;

    #[test]
    fn env_gets_one_argument() {
        let cases = [
            ("python3", Some("python3")),
            ("python3 -u", Some("python3 -u")),
            ("-S python3 -u", Some("python3")),
            ("-Spython3 -u", Some("python3")),
            ("--split-string=node --x", Some("node")),
            ("-S A=1 node", None),
            ("-i node", None),
            ("", None),
        ];
        for (argument, expected) in cases {
            assert_eq!(env_command(argument), expected, "{argument:?}");
        }
    }
}
