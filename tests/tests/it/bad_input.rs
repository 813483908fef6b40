//! Promise: a verb that cannot be done gets a one-line error and the documented exit code, and the active generation
//! never notices.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    api, cgroups,
    command::{self, Run, Running},
    host::Host,
    servers::{CommandLine, Plain},
    wait,
};

const LIMIT: Duration = Duration::from_secs(10);

fn plain(generation: &str) -> Result<CommandLine> {
    Plain::new(generation).listen("0.0.0.0:8080").command()
}

/// `gen1` is active.
fn scene() -> Result<Host> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]\nready_timeout = \"10s\"")?;
    host.upgrade("gen1", &plain("gen1")?)?;
    Ok(host)
}

/// The command must end with `code` and a one-line error that contains all of `parts`.
fn refused(host: &Host, arguments: &[&str], code: i32, parts: &[&str]) -> Result<Run> {
    host.hotlb(arguments)?
        .expect_code(code)?
        .expect_one_line_error()?
        .expect_stderr(parts)
}

fn expect_untouched(host: &Host) -> Result<()> {
    host.expect_answers("127.0.0.1:8080".parse()?, 20, "gen1")?;
    let web = host.web()?;
    ensure!(web.active.as_deref() == Some("gen1"), "{web:#?}");
    Ok(())
}

/// Starts a deploy of `gen2` that takes three seconds to get ready, and waits until it is under way.
fn slow_deploy(host: &Host) -> Result<Running> {
    let line = Plain::new("gen2")
        .listen("0.0.0.0:8080")
        .option("--listen-after-ms", 3_000)
        .command()?;
    let mut arguments = vec!["deploy", "--generation", "gen2", "--"];
    arguments.extend(line.iter().map(String::as_str));
    let running = host.start_hotlb(&arguments)?;
    host.wait_state("gen2", &["starting"])?;
    Ok(running)
}

#[test]
fn unknown_names() -> Result<()> {
    let host = scene()?;
    refused(&host, &["promote", "gen9"], 5, &["gen9"])?;
    refused(&host, &["stop", "gen9"], 5, &["gen9"])?;
    for verb in [
        vec!["status"],
        vec!["promote", "gen1"],
        vec!["rollback"],
        vec!["stop", "gen1"],
    ] {
        let arguments = [&verb[..1], &["--service", "nope"], &verb[1..]].concat();
        refused(&host, &arguments, 5, &["nope"])?;
    }
    refused(
        &host,
        &["deploy", "--service", "nope", "--", "/bin/true"],
        5,
        &["nope"],
    )?;
    refused(
        &host,
        &["upgrade", "--service", "nope", "--", "/bin/true"],
        5,
        &["nope"],
    )?;
    expect_untouched(&host)
}

#[test]
fn a_name_is_used_once() -> Result<()> {
    let host = scene()?;
    let again = host.try_deploy("gen1", &plain("gen1")?)?;
    again
        .expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&["gen1"])?;
    expect_untouched(&host)
}

#[test]
fn a_name_that_is_a_path_is_refused() -> Result<()> {
    let host = scene()?;
    for name in ["../up", "a/b", "", ".", "..", "white space", "line\nfeed"] {
        let run = host.try_deploy(name, &plain("gen2")?)?;
        ensure!(
            matches!(run.code, 1 | 2 | 6),
            "{name:?} was taken\n{}",
            run.describe()
        );
        ensure!(!run.stderr.contains("panicked"), "{}", run.describe());
    }
    expect_untouched(&host)
}

#[test]
fn the_active_generation_is_not_promoted_or_stopped() -> Result<()> {
    let host = scene()?;
    refused(&host, &["promote", "gen1"], 6, &["gen1", "active"])?;
    refused(&host, &["stop", "gen1"], 6, &["gen1", "active"])?;
    expect_untouched(&host)
}

#[test]
fn there_is_nothing_to_roll_back_to() -> Result<()> {
    let host = scene()?;
    refused(&host, &["rollback"], 6, &["roll"])?;
    expect_untouched(&host)
}

#[test]
fn a_dead_generation_is_not_promoted() -> Result<()> {
    let host = scene()?;
    host.deploy("gen2", &plain("gen2")?)?;
    cgroups::kill(&cgroups::of(host.generation("gen2")?.process()?)?)?;
    // Whether the agent has noticed yet or finds out now makes no difference.
    refused(&host, &["promote", "gen2"], 6, &["gen2"])?;
    expect_untouched(&host)
}

#[test]
fn an_unready_generation_is_not_promoted() -> Result<()> {
    let host = scene()?;
    let deploy = slow_deploy(&host)?;
    refused(&host, &["promote", "gen2"], 6, &["gen2"])?;
    expect_untouched(&host)?;
    deploy.finish(LIMIT)?.expect_success()?;
    host.promote("gen2").map(drop)
}

#[test]
fn one_rollout_at_a_time() -> Result<()> {
    let host = scene()?;
    let deploy = slow_deploy(&host)?;
    let second = host.try_deploy("gen3", &plain("gen3")?)?;
    second
        .expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&["gen2"])?;
    expect_untouched(&host)?;
    deploy.finish(LIMIT)?.expect_success()?;
    Ok(())
}

/// Ctrl-C in the middle of a deploy must not leave the service unable to deploy.
#[test]
fn a_deploy_given_up_by_its_client_ends() -> Result<()> {
    let host = scene()?;
    let deploy = slow_deploy(&host)?;
    drop(deploy);
    host.wait_state("gen2", &["ready", "failed", "stopped"])?;
    if host.generation("gen2")?.state == "ready" {
        host.ok(&["stop", "gen2"])?;
    }
    host.upgrade("gen3", &plain("gen3")?)?;
    host.expect_answers("127.0.0.1:8080".parse()?, 20, "gen3")
}

#[test]
fn stop_ends_a_candidate() -> Result<()> {
    let host = scene()?;
    host.deploy("gen2", &plain("gen2")?)?;
    let pid = host.generation("gen2")?.process()?;
    host.ok(&["stop", "gen2"])?;
    ensure!(host.generation("gen2")?.state == "stopped");
    wait::until_true("its process is gone", LIMIT, || {
        host.netns().pids().is_ok_and(|pids| !pids.contains(&pid))
    })?;
    refused(&host, &["promote", "gen2"], 6, &["gen2"])?;
    expect_untouched(&host)
}

#[test]
fn a_rollback_starts_a_stopped_generation_again() -> Result<()> {
    let host = scene()?;
    host.upgrade("gen2", &plain("gen2")?)?;
    host.ok(&["stop", "gen1"])?;
    host.expect_answers("127.0.0.1:8080".parse()?, 20, "gen2")?;
    host.ok(&["rollback"])?;
    expect_untouched(&host)
}

#[test]
fn an_older_client() -> Result<()> {
    let host = scene()?;
    let program = host.binary().display().to_string();
    for version in ["0", "1", "99", "nonsense"] {
        let answer = api::request(&host.socket(), "GET", "/v1/status", version, "")?;
        let body: serde_json::Value =
            serde_json::from_str(&answer.body).with_context(|| format!("{answer:?}"))?;
        ensure!(answer.code >= 400, "{answer:?}");
        ensure!(body["error"]["exit"] == 8, "{answer:?}");
        ensure!(
            body["error"]["message"]
                .as_str()
                .is_some_and(|message| message.contains("version 2") && message.contains(&program)),
            "{answer:?}"
        );
    }
    expect_untouched(&host)
}

#[test]
fn nonsense_on_the_control_socket() -> Result<()> {
    let host = scene()?;
    for (method, path, body) in [
        ("GET", "/v1/nothing", ""),
        ("POST", "/v1/status", ""),
        ("POST", "/v1/services/web/promote", ""),
        ("POST", "/v1/services/web/promote", "{\"generation\":"),
        ("POST", "/v1/services/web/promote", "{\"generation\":7}"),
        ("POST", "/v1/services/web/deploy", "{\"command\":[]}"),
        (
            "POST",
            "/v1/services/web/deploy",
            "{\"command\":[\"\"],\"cwd\":\"/\"}",
        ),
    ] {
        let answer = api::request(&host.socket(), method, path, api::VERSION, body)?;
        let refused = answer.code >= 400 || answer.body.contains("\"error\"");
        ensure!(refused, "{method} {path} {body} was taken: {answer:?}");
    }
    expect_untouched(&host)
}

#[test]
fn errors_say_where_a_rollback_can_lead() -> Result<()> {
    let host = scene()?;
    host.upgrade("gen2", &plain("gen2")?)?;
    let listed = ["gen1 (standby)", "gen2 (active)"];
    refused(&host, &["rollback", "--to", "gen9"], 5, &listed)?;
    refused(&host, &["promote", "gen9"], 5, &listed)?;
    refused(&host, &["stop", "gen9"], 5, &listed)?;
    let to_active = ["cannot roll back to gen2: it is already active"];
    refused(&host, &["rollback", "--to", "gen2"], 6, &to_active)?;
    Ok(())
}

/// What bash offers after these words.
fn offered(host: &Host, words: &[&str]) -> Result<String> {
    let directory = host
        .binary()
        .parent()
        .context("the binary is in a directory")?;
    let mut bash = host.command("bash");
    bash.args([
        "-c",
        "PATH=$0:$PATH; source <(hotlb completions bash); COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
         _hotlb hotlb \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; echo \"${COMPREPLY[@]}\"",
    ]);
    let run = command::run(bash.arg(directory).args(words), LIMIT)?.expect_success()?;
    Ok(run.stdout)
}

#[test]
fn bash_offers_generations_and_no_verb_of_hotlbs_own() -> Result<()> {
    let host = scene()?;
    host.upgrade("gen2", &plain("gen2")?)?;
    for before in [
        ["hotlb", "rollback", "--to"].as_slice(),
        &["hotlb", "promote"],
        &["hotlb", "stop"],
    ] {
        let all = offered(&host, &[before, &[""]].concat())?;
        ensure!(
            all.contains("gen1") && all.contains("gen2"),
            "{before:?}: {all}"
        );
        let one = offered(&host, &[before, &["gen2"]].concat())?;
        ensure!(
            !one.contains("gen1") && one.contains("gen2"),
            "{before:?}: {one}"
        );
    }
    let verbs = offered(&host, &["hotlb", ""])?;
    ensure!(
        verbs.contains("rollback") && !verbs.contains("__"),
        "{verbs}"
    );
    Ok(())
}
