//! Promise: a candidate is ready when it answers the check that is configured for it, and only then; what failed is
//! named.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    cgroups,
    command::Run,
    host::Host,
    locate,
    servers::{CommandLine, Plain},
    wait,
};

const LISTEN: &str = "0.0.0.0:8080";
const READY_TIMEOUT: Duration = Duration::from_secs(2);

fn host(health: &str) -> Result<Host> {
    Host::with_service(&format!(
        "listen = [\"{LISTEN}\"]\nready_timeout = \"2s\"\nhealth = {health}"
    ))
}

fn grpc(arguments: &[&str]) -> Result<CommandLine> {
    let program = locate::grpc_server()?.display().to_string();
    let words = [program.as_str(), "--listen", LISTEN];
    Ok(words
        .iter()
        .chain(arguments)
        .map(|&word| word.to_owned())
        .collect())
}

fn plain(name: &str) -> Result<CommandLine> {
    Plain::new(name).listen(LISTEN).command()
}

/// The deploy must fail for the reasons in `parts`, and leave nothing that was run for it.
fn refuses(host: &Host, server: &CommandLine, parts: &[&str]) -> Result<Run> {
    let run = host
        .try_deploy("bad", server)?
        .expect_code(1)?
        .expect_one_line_error()?
        .expect_stderr(parts)?;
    ensure!(host.generation("bad")?.state == "failed");
    ensure!(
        cgroups::is_empty(&host.cgroup()?.join("web.hooks")),
        "a check runs on"
    );
    Ok(run)
}

#[test]
fn grpc_serving() -> Result<()> {
    let host = host("{ grpc = \"\" }")?;
    host.upgrade("gen1", &grpc(&[])?)?;
    host.upgrade("gen2", &grpc(&[])?)?;
    ensure!(host.web()?.active.as_deref() == Some("gen2"));
    Ok(())
}

/// The question leads to the candidate although another generation, which would say SERVING, has the port.
#[test]
fn grpc_not_serving() -> Result<()> {
    let host = host("{ grpc = \"\" }")?;
    host.upgrade("gen1", &grpc(&[])?)?;
    let run = refuses(
        &host,
        &grpc(&["--says", "not-serving"])?,
        &["grpc.health.v1.Health/Check(\"\"): NOT_SERVING"],
    )?;
    ensure!(run.took >= READY_TIMEOUT, "it was asked once only");
    ensure!(host.web()?.active.as_deref() == Some("gen1"));
    Ok(())
}

#[test]
fn grpc_without_a_health_service() -> Result<()> {
    let host = host("{ grpc = \"\" }")?;
    let server = grpc(&["--says", "unimplemented"])?;
    refuses(&host, &server, &["the server has no health service"])?;
    refuses(&host, &plain("http1")?, &["Health/Check(\"\"): "])?;
    Ok(())
}

#[test]
fn grpc_of_one_service() -> Result<()> {
    let host = host("{ grpc = \"shop.Cart\" }")?;
    let cart = ["--service", "shop.Cart"];
    refuses(
        &host,
        &grpc(&[])?,
        &["Check(\"shop.Cart\"): it does not know service \"shop.Cart\""],
    )?;
    let not_serving = grpc(&[&cart[..], &["--says", "not-serving"]].concat())?;
    refuses(&host, &not_serving, &["Check(\"shop.Cart\"): NOT_SERVING"])?;
    host.upgrade("gen1", &grpc(&cart)?)
}

#[test]
fn exec_is_told_whom_to_look_at() -> Result<()> {
    let host = host("{ exec = \"env | grep ^HOTLB_ | sort >$PWD/seen; pwd -P >>$PWD/seen\" }")?;
    host.upgrade("gen1", &plain("gen1")?)?;
    host.deploy("gen2", &plain("gen2")?)?;
    let seen = fs::read_to_string(host.directory().join("seen"))?;
    let pid = host.generation("gen2")?.process()?;
    let directory = host.directory().display();
    ensure!(
        seen == format!("HOTLB_GENERATION=gen2\nHOTLB_PID={pid}\nHOTLB_SERVICE=web\n{directory}\n"),
        "{seen}"
    );
    Ok(())
}

#[test]
fn exec_that_does_not_approve() -> Result<()> {
    let check = "{ exec = \"echo not yet; echo queue is full >&2; exit 4\" }";
    let run = refuses(
        &host(check)?,
        &plain("gen1")?,
        &["/bin/sh exited with code 4, saying \"queue is full\""],
    )?;
    ensure!(
        run.took >= READY_TIMEOUT / 2 && run.took < READY_TIMEOUT * 2,
        "{}",
        run.describe()
    );
    Ok(())
}

#[test]
fn exec_is_run_until_it_approves() -> Result<()> {
    let host = host("{ exec = \"echo . >>$PWD/tries; test $(wc -l <$PWD/tries) -ge 3\" }")?;
    host.deploy("gen1", &plain("gen1")?)?;
    let tries = fs::read_to_string(host.directory().join("tries"))?;
    ensure!(tries.lines().count() == 3, "{tries}");
    Ok(())
}

#[test]
fn exec_that_hangs_is_ended() -> Result<()> {
    let host = host("{ exec = \"trap '' TERM; echo $$ >$PWD/pid; while :; do sleep 100; done\" }")?;
    let run = refuses(
        &host,
        &plain("gen1")?,
        &["/bin/sh was killed at its deadline of"],
    )?;
    ensure!(run.took < READY_TIMEOUT * 2, "{}", run.describe());
    let pid = fs::read_to_string(host.directory().join("pid"))?;
    let proc = format!("/proc/{}", pid.trim());
    wait::until_true("the check is gone", READY_TIMEOUT, || {
        !fs::exists(&proc).unwrap_or(true)
    })
}

#[test]
fn exec_that_is_not_there() -> Result<()> {
    let run = refuses(
        &host("{ exec = [\"no-such-check\", \"-v\"] }")?,
        &plain("gen1")?,
        &["no-such-check was not started: command not found"],
    )?;
    ensure!(run.took < READY_TIMEOUT, "it was tried again and again");
    Ok(())
}

/// An exec check has no connection of its own: a server that takes none is not ready, whatever the check says.
#[test]
fn exec_comes_after_a_connection() -> Result<()> {
    let host = host("{ exec = \"touch $PWD/ran\" }")?;
    let server = Plain::new("gen1")
        .listen(LISTEN)
        .flag("--never-accept")
        .command()?;
    refuses(&host, &server, &["accepts no connection"])?;
    ensure!(
        !host.directory().join("ran").exists(),
        "it ran all the same"
    );
    Ok(())
}

/// A check that an agent left behind when it was killed is ended by the next one.
#[test]
fn exec_of_a_killed_agent_is_ended() -> Result<()> {
    let mut host = host("{ exec = \"echo $$ >$PWD/pid; exec sleep 1000\" }")?;
    let server = plain("gen1")?;
    let mut arguments = vec!["deploy", "--generation", "gen1", "--"];
    arguments.extend(server.iter().map(String::as_str));
    let deploy = host.start_hotlb(&arguments)?;
    let file = host.directory().join("pid");
    let pid = wait::until("the check runs", READY_TIMEOUT, || {
        fs::read_to_string(&file)
            .ok()
            .filter(|pid| pid.ends_with('\n'))
    })?;
    host.kill_agent()?;
    deploy.finish(READY_TIMEOUT * 5)?;
    let proc = format!("/proc/{}", pid.trim());
    ensure!(fs::exists(&proc)?, "the check ended by itself");
    host.start_agent()?;
    wait::until_true("the check is gone", READY_TIMEOUT, || {
        !fs::exists(&proc).unwrap_or(true)
    })?;
    ensure!(!host.cgroup()?.join("web.hooks").exists());
    Ok(())
}

#[test]
fn http_and_tcp() -> Result<()> {
    let target: SocketAddr = "127.0.0.1:8080".parse()?;
    for health in ["{ http = \"/healthz\" }", "{ tcp = true }"] {
        let host = host(health)?;
        host.upgrade("gen1", &plain("gen1")?)?;
        host.expect_answers(target, 10, "gen1")?;
    }
    let unwell = Plain::new("gen1")
        .listen(LISTEN)
        .option("--health-status", 503)
        .command()?;
    refuses(
        &host("{ http = \"/healthz\" }")?,
        &unwell,
        &["GET 0.0.0.0:8080/healthz: status 503"],
    )?;
    host("{ tcp = true }")?.deploy("gen1", &unwell)?;
    Ok(())
}

/// What cannot be loaded is refused before there is a generation; what only its loader says is told when it did not
/// start.
#[test]
fn a_program_that_cannot_be_loaded() -> Result<()> {
    let host = host("{ tcp = true }")?;
    let broken = host.directory().join("server");
    let mut bytes = fs::read("/bin/sh")?;
    let name = b"libc.so.6\0";
    let at = bytes
        .windows(name.len())
        .position(|window| window == name)
        .context("/bin/sh needs libc.so.6")?;
    if let Some(letter) = bytes.get_mut(at + 3) {
        *letter = b'x';
    }
    fs::write(&broken, bytes)?;
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755))?;
    let run = host
        .try_deploy("gen1", &[broken.display().to_string()])?
        .expect_code(1)?
        .expect_stderr(&["exited with code 127", "missing shared libraries: libx"])?;
    ensure!(run.took < READY_TIMEOUT, "{}", run.describe());
    fs::write(&broken, "#!/opt/none/sh\n")?;
    host.try_deploy("gen2", &[broken.display().to_string()])?
        .expect_code(1)?
        .expect_one_line_error()?
        .expect_stderr(&["a script for /opt/none/sh"])?;
    let generations = host.web()?.generations;
    ensure!(generations.len() == 1, "there is a generation gen2");
    Ok(())
}
