//! Promise: a host or a user that cannot do what hotlb needs is told so, in one line and with the documented exit code.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    cgroups,
    command::{self, Run},
    host::Host,
    process::Process,
    servers::Plain,
    wait,
};

const LIMIT: Duration = Duration::from_secs(10);
const CONFIG: &str = "[service.web]\nlisten = [\"0.0.0.0:8080\"]\n";

#[test]
fn a_port_held_by_somebody_else() -> Result<()> {
    let host = Host::without_agent()?;
    let line = Plain::new("stranger")
        .listen("0.0.0.0:8080")
        .option("--uid", 65534)
        .command()?;
    let (program, arguments) = line.split_first().context("an empty command line")?;
    let log = host.directory().join("stranger.log");
    let stranger = Process::start(host.netns().command(program).args(arguments), &log)?;
    let target = "127.0.0.1:8080".parse()?;
    wait::until_true("the stranger listens", LIMIT, || host.ask(target).is_ok())?;
    host.write_config(CONFIG)?;
    let pid = stranger.pid().to_string();
    let run = host.start_hotlb(&["agent"])?.finish(LIMIT)?;
    run.expect_code(7)?
        .expect_last_error(&["0.0.0.0:8080", &pid, "65534"])?;
    ensure!(host.ask(target)? == "stranger");
    Ok(())
}

/// Runs `hotlb` behind a wrapper such as setpriv, in the namespace and with the environment of the host.
fn wrapped(host: &Host, wrapper: &[&str], arguments: &[&str]) -> Result<Run> {
    let (program, rest) = wrapper.split_first().context("an empty wrapper")?;
    let mut wrapped = host.command(program);
    wrapped
        .args(rest)
        .arg(host.copy_of(host.binary())?)
        .args(arguments);
    command::run(&mut wrapped, LIMIT)
}

const NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

#[test]
fn without_root() -> Result<()> {
    let mut host = Host::without_agent()?;
    host.write_config(CONFIG)?;
    wrapped(&host, &NOBODY, &["agent"])?
        .expect_code(4)?
        .expect_last_error(&["root"])?;
    host.start_agent()?;
    for arguments in [
        &["status"][..],
        &["promote", "gen1"],
        &["rollback"],
        &["down"],
    ] {
        wrapped(&host, &NOBODY, arguments)?
            .expect_code(4)?
            .expect_one_line_error()?;
    }
    host.status().map(drop)
}

/// Who may open the socket (in life: group hotlb) may look; only root and `operators` may operate.
#[test]
fn looking_and_operating_are_two_things() -> Result<()> {
    const MEMBER: [&str; 4] = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--groups=64999",
    ];
    const OPERATOR: [&str; 4] = ["setpriv", "--reuid=33", "--regid=33", "--groups=64999"];
    let config =
        "[agent]\noperators = [\"www-data\"]\n[service.web]\nlisten = [\"0.0.0.0:8080\"]\n";
    let host = Host::with_config(config)?;
    for place in [host.socket(), host.directory().join("run")] {
        std::os::unix::fs::chown(place, None, Some(64999))?;
    }
    let line = Plain::new("gen1").listen("0.0.0.0:8080").command()?;
    let mut deploy = vec!["deploy", "--generation", "gen1", "--"];
    deploy.extend(line.iter().map(String::as_str));

    wrapped(&host, &MEMBER, &["status"])?.expect_success()?;
    for refused in [&deploy[..], &["promote", "gen1"], &["rollback"], &["down"]] {
        wrapped(&host, &MEMBER, refused)?
            .expect_code(4)?
            .expect_one_line_error()?
            .expect_stderr(&["nobody"])?;
    }
    wrapped(&host, &OPERATOR, &deploy)?.expect_success()?;
    wrapped(&host, &OPERATOR, &["promote", "gen1"])?.expect_success()?;
    host.expect_answers("127.0.0.1:8080".parse()?, 20, "gen1")
}

#[test]
fn without_a_capability() -> Result<()> {
    let host = Host::without_agent()?;
    host.write_config(CONFIG)?;
    let wrapper = ["setpriv", "--bounding-set=-sys_admin,-bpf"];
    let run = wrapped(&host, &wrapper, &["agent"])?.expect_code(4)?;
    run.expect_last_error(&["CAP_"])?;
    Ok(())
}

#[test]
fn without_bpffs() -> Result<()> {
    let host = Host::without_agent()?;
    host.write_config(CONFIG)?;
    let place = host.directory().join("no-bpffs");
    std::fs::create_dir(&place)?;
    let mut agent = host.command(host.binary());
    agent.arg("agent").env("HOTLB_BPFFS_DIR", &place);
    let run = command::run(&mut agent, LIMIT)?;
    run.expect_code(7)?
        .expect_last_error(&["bpffs", &place.display().to_string()])?;
    Ok(())
}

#[test]
fn without_cgroup2() -> Result<()> {
    let host = Host::without_agent()?;
    host.write_config(CONFIG)?;
    let mount = cgroups::mount()?.display().to_string();
    let script = format!("umount -l {mount} && exec \"$0\" \"$@\"");
    let run = wrapped(
        &host,
        &["unshare", "--mount", "sh", "-c", &script],
        &["agent"],
    )?;
    run.expect_code(7)?.expect_last_error(&["cgroup2"])?;
    Ok(())
}

/// The cgroup's name is no path out of the cgroup2 mount: nothing is made elsewhere.
#[test]
fn a_cgroup_outside_the_mount() -> Result<()> {
    let host = Host::without_agent()?;
    host.write_config(CONFIG)?;
    let elsewhere = host.directory().join("elsewhere");
    for name in [&elsewhere.display().to_string(), "../elsewhere", "..", "/"] {
        let mut agent = host.command(host.binary());
        agent.arg("agent").env("HOTLB_CGROUP", name);
        command::run(&mut agent, LIMIT)?
            .expect_code(78)?
            .expect_last_error(&["HOTLB_CGROUP", name])?;
    }
    ensure!(!elsewhere.exists());
    let above = cgroups::mount()?;
    ensure!(!above.with_file_name("elsewhere").exists());
    Ok(())
}
