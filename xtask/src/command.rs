//! Running other programs: shown before they run, and their failure is an error.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs `command` with this process's output, having shown it; fails when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("+ {shown}");
    let status = command
        .status()
        .with_context(|| format!("`{shown}` did not start"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// What `command` writes to its standard output, without the white space around it; its standard
/// error is shown only in the error.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{shown}` did not start"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed: {}: {}", output.status, complaint.trim());
    }
    let text = String::from_utf8(output.stdout).with_context(|| format!("`{shown}`: not UTF-8"))?;
    Ok(text.trim().to_owned())
}

/// The command as one would type it, without its environment.
fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_output_is_trimmed() {
        assert_eq!(capture(Command::new("echo").arg("hello")).unwrap(), "hello");
    }

    #[test]
    fn a_failure_names_the_command_and_its_complaint() {
        let failure = capture(Command::new("sh").args(["-c", "echo oh >&2; exit 3"])).unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("sh -c") && text.contains("exit status: 3") && text.contains("oh"));
    }
}
