//! Promise: a configuration that cannot be meant is refused before anything is touched, with the place in the file.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hotlb_tests::host::Host;

const LIMIT: Duration = Duration::from_secs(10);
/// A good section, three lines with the key that follows.
const WEB: &str = "[service.web]\nlisten = [\"0.0.0.0:8080\"]\n";

/// The agent must not start with this configuration; its error contains all of `parts`.
fn refused(config: &str, parts: &[&str]) -> Result<()> {
    let host = Host::without_agent()?;
    host.write_config(config)?;
    let run = host.start_hotlb(&["agent"])?.finish(LIMIT)?;
    run.expect_code(78)
        .and_then(|run| run.expect_last_error(parts))
        .with_context(|| format!("with\n{config}"))
        .map(drop)
}

#[test]
fn syntax_errors_name_line_and_column() -> Result<()> {
    refused(
        "[service.web]\nlisten = [\"0.0.0.0:8080\"\n",
        &["hotlb.toml:2:"],
    )?;
    refused(
        "[service.web]\nlisten = \"0.0.0.0:8080\n",
        &["hotlb.toml:2:"],
    )?;
    refused("[service.web]\nlisten = 8080\n", &["hotlb.toml:2:10: "])
}

#[test]
fn unknown_keys_are_errors() -> Result<()> {
    refused(
        &format!("{WEB}heatlh = {{ http = \"/\" }}\n"),
        &["hotlb.toml:3:1: ", "heatlh"],
    )?;
    refused(
        &format!("{WEB}drain = {{ deadlien = \"3s\" }}\n"),
        &["hotlb.toml:3:11: ", "deadlien"],
    )?;
    refused(&format!("{WEB}[agnet]\n"), &["hotlb.toml:3:2: ", "agnet"])
}

#[test]
fn an_address_belongs_to_one_service() -> Result<()> {
    let twice = format!("{WEB}[service.api]\nlisten = [\"0.0.0.0:8080\"]\n");
    refused(&twice, &["0.0.0.0:8080", "web", "api"])?;
    refused(
        "[service.web]\nlisten = [\"0.0.0.0:8080\", \"0.0.0.0:8080\"]\n",
        &["0.0.0.0:8080"],
    )
}

#[test]
fn addresses_that_cannot_be_meant() -> Result<()> {
    refused("[service.web]\nlisten = []\n", &["listen"])?;
    refused("[service.web]\n", &["listen"])?;
    refused(
        "[service.web]\nlisten = [\"0.0.0.0\"]\n",
        &["hotlb.toml:2:10: "],
    )?;
    refused("[service.web]\nlisten = [\"0.0.0.0:0\"]\n", &["0.0.0.0:0"])
}

#[test]
fn values_that_cannot_be_meant() -> Result<()> {
    for (line, part) in [
        ("ready_timeout = \"soon\"", "soon"),
        ("mode = \"magic\"", "magic"),
        ("bind = \"maybe\"", "maybe"),
        ("user = \"nobody-by-that-name\"", "nobody-by-that-name"),
        ("group = \"no-such-group\"", "no-such-group"),
        ("drain = { signal = \"SIGNOPE\" }", "SIGNOPE"),
        ("health = { http = \"healthz\" }", "healthz"),
    ] {
        refused(&format!("{WEB}{line}\n"), &[part])?;
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_there() -> Result<()> {
    let host = Host::without_agent()?;
    let run = host
        .start_hotlb(&["agent", "--config", "/nowhere/hotlb.toml"])?
        .finish(LIMIT)?;
    run.expect_code(78)?
        .expect_last_error(&["/nowhere/hotlb.toml"])?;
    Ok(())
}

#[test]
fn a_choice_of_workers_that_there_is_not() -> Result<()> {
    refused(
        &format!("{WEB}workers = \"lest\"\n"),
        &["hotlb.toml:3:11: ", "lest", "hash", "cpu", "least", "auto"],
    )?;
    refused(
        &format!("{WEB}hung_worker_after = 5\n"),
        &["hotlb.toml:3:21: "],
    )
}
