//! What is printed, and where: results on stdout, progress and errors on stderr.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use hotlb_api::wire::{Done, Failure, Progress};
use hotlb_sys::reader::printable;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::args::OutputFormat;

/// Prints in the way that was asked for.
#[derive(Debug)]
pub struct Printer {
    format: OutputFormat,
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Printer {
    /// A printer; progress is shown on a terminal only.
    pub fn new(format: OutputFormat, quiet: bool) -> Self {
        let shows_progress = !quiet && format == OutputFormat::Table && io::stderr().is_terminal();
        Self {
            format,
            quiet,
            bar: shows_progress.then(spinner),
        }
    }

    /// What to print for.
    pub fn format(&self) -> OutputFormat {
        self.format
    }

    /// Shows what is being done.
    pub fn progress(&self, progress: &Progress) {
        let Some(bar) = &self.bar else {
            return;
        };
        bar.set_message(match progress.remaining {
            Some(1) => format!("{}: 1 connection left", progress.step),
            Some(left) => format!("{}: {left} connections left", progress.step),
            None => progress.step.clone(),
        });
    }

    /// Says what is true now.
    pub fn done(&self, done: &Done) -> io::Result<()> {
        self.clear();
        match self.format {
            OutputFormat::Json => json(done),
            OutputFormat::Table => {
                for warning in &done.warnings {
                    // What was asked for is done; the warning is in `-o json` too.
                    let _unwritable = writeln!(io::stderr(), "! {}", printable(warning));
                }
                if self.quiet {
                    return Ok(());
                }
                line(&done.message)
            }
        }
    }

    /// Prints a value as JSON, or as `text`.
    pub fn value<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> io::Result<()> {
        self.clear();
        match self.format {
            OutputFormat::Json => json(value),
            OutputFormat::Table => line(text().trim_end()),
        }
    }

    /// Says that stdout takes nothing.
    pub fn unread(&self, error: &io::Error) {
        // Nowhere is left to say that stderr cannot be written; the exit code tells.
        let _unwritable = writeln!(io::stderr(), "hotlb: the answer cannot be printed: {error}");
    }

    /// Takes the progress line away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Says what went wrong: for people on stderr, for programs on stdout.
pub fn failure(format: OutputFormat, failure: &Failure) {
    match format {
        OutputFormat::Json if json(&serde_json::json!({ "error": failure })).is_ok() => {}
        _ => {
            let lines: Vec<String> = failure.message.lines().map(printable).collect();
            // Nowhere is left to say that stderr cannot be written; the exit code tells.
            let _unwritable = writeln!(io::stderr(), "hotlb: {}", lines.join("\n"));
        }
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn json<T: Serialize>(value: &T) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    line(&text)
}

/// One line on stdout; a reader that has gone (`| head`) is no error.
fn line(text: &str) -> io::Result<()> {
    ignore_gone(writeln!(io::stdout(), "{text}"))
}

fn ignore_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints a script as it is.
pub fn script(text: &[u8]) -> io::Result<()> {
    ignore_gone(io::stdout().write_all(text))
}

/// Prints a generation's output as it comes, each line with its name.
pub fn relay(generation: &str, text: &str) {
    for line in text.lines() {
        // Who reads it may have gone; the generations go on.
        let _gone = writeln!(io::stdout(), "{generation} | {line}");
    }
}
