//! Promise: a profile of waiting shows where the threads of exactly one generation wait, and for how long.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    host::Host,
    mounts,
    profile::{Profile, Stack},
    report,
    servers::split,
};

const SERVICE: &str = "listen = [\"0.0.0.0:8080\"]";

/// The share of the samples of threads with this name that are as `wanted`, in percent, and how many there are.
fn of_thread(
    profile: &Profile,
    thread: &str,
    wanted: impl Fn(&Stack) -> bool,
) -> Result<(f64, u32)> {
    let stacks = profile.only()?.stacks.iter();
    let own = stacks.filter(|stack| stack.thread == thread);
    let (mut all, mut found) = (0, 0);
    for stack in own {
        all += u32::try_from(stack.count)?;
        if wanted(stack) {
            found += u32::try_from(stack.count)?;
        }
    }
    Ok((100.0 * f64::from(found) / f64::from(all.max(1)), all))
}

fn is_in<'a>(profile: &'a Profile, function: &'a str) -> impl Fn(&Stack) -> bool + 'a {
    move |stack| {
        profile
            .functions(stack)
            .any(|frame| frame.name.ends_with(function))
    }
}

#[test]
fn known_waits_are_recovered() -> Result<()> {
    let host = Host::with_service(SERVICE)?;
    host.upgrade("gen1", &split::command("inside", &["--wait"])?)?;
    // A neighbour that waits too, of which no sample may appear.
    host.deploy("gen2", &split::command("outside", &["--wait"])?)?;
    let profile = Profile::take(&host, &["gen1", "--off-cpu", "--for", "8s"])?;
    for (function, percent) in [("::seventy_asleep", 70.0), ("::thirty_reading", 30.0)] {
        let (found, all) = of_thread(&profile, "inside", is_in(&profile, function))?;
        report::figure(
            &format!("profile: percent of waiting in a function of {percent}"),
            format!("{found:.2} of {all}"),
        );
        ensure!(
            (found - percent).abs() < 2.5,
            "{found} % of {all} in {function}: {profile:?}"
        );
    }
    let (found, all) = of_thread(&profile, "inside-lock", is_in(&profile, "::locked_out"))?;
    report::figure(
        "profile: percent of waiting of a thread that waits for a lock",
        format!("{found:.2} of {all}"),
    );
    ensure!(found > 99.0 && all > 700, "{found} % of {all}: {profile:?}");
    let sampled = profile.only()?;
    ensure!(
        sampled
            .stacks
            .iter()
            .all(|s| !s.thread.starts_with("outside")),
        "a sample of another generation"
    );
    ensure!(
        profile
            .frames
            .iter()
            .any(|frame| frame.kind == "kernel" && frame.name.contains("futex")),
        "nothing of the kernel: {:?}",
        profile.frames
    );
    let taken = profile.percent_of_expected()?;
    report::figure(
        "profile: samples of waiting, percent of expected",
        format!("{taken:.2}"),
    );
    ensure!(
        (98.0..102.0).contains(&taken),
        "{taken} %: {:?}",
        profile.notes
    );
    let complete = profile.percent_complete()?;
    report::figure(
        "profile: complete stacks of waiting, percent",
        format!("{complete:.2}"),
    );
    ensure!(complete >= 95.0, "{complete} % are complete: {profile:?}");
    Ok(())
}

#[test]
fn waiting_for_a_cpu_is_told_apart() -> Result<()> {
    let host = Host::with_service(SERVICE)?;
    // More threads than any CPU here can run: they are bound to one.
    let mut line = vec!["taskset".to_owned(), "-c".to_owned(), "0".to_owned()];
    line.extend(split::command(
        "inside",
        &["--spin", "--spin-threads", "3"],
    )?);
    host.upgrade("gen1", &line)?;
    let profile = Profile::take(&host, &["gen1", "--off-cpu", "--for", "4s"])?;
    let (found, all) = of_thread(&profile, "inside", is_in(&profile, "[runnable]"))?;
    report::figure(
        "profile: samples off the CPU of threads that spin that are called runnable, percent",
        format!("{found:.2} of {all}"),
    );
    ensure!(found > 98.0 && all > 300, "{found} % of {all}: {profile:?}");
    Ok(())
}

#[test]
fn waiting_of_nginx_under_load_is_shown() -> Result<()> {
    let name = "waiting_of_nginx_under_load_is_shown";
    let Some(profile) = Profile::of_nginx(name, &["--off-cpu"])? else {
        return Ok(());
    };
    let complete = profile.percent_complete()?;
    report::figure(
        "profile: complete stacks of nginx's waiting, percent",
        format!("{complete:.2}"),
    );
    let used = Duration::from_millis(profile.own_cpu_ms).as_secs_f64();
    report::figure(
        "profile: CPU of sampling nginx's waiting at 99 Hz, percent of a core",
        format!(
            "{:.2}",
            100.0 * used / Duration::from_millis(profile.took_ms).as_secs_f64()
        ),
    );
    ensure!(complete >= 95.0, "{complete} % are complete: {profile:?}");
    Ok(())
}

#[test]
fn wrong_usage_is_refused() -> Result<()> {
    let host = Host::with_service(SERVICE)?;
    host.upgrade("gen1", &split::command("inside", &["--wait"])?)?;
    for (arguments, code, said) in [
        (
            &["profile", "gen9", "--off-cpu"][..],
            5,
            "no generation gen9",
        ),
        (
            &["profile", "gen1", "--off-cpu", "--unwind", "fp"],
            2,
            "tables",
        ),
        (
            &["profile", "gen1", "--off-cpu", "-o", "/no/such/place/a.svg"],
            1,
            "cannot write",
        ),
    ] {
        let run = host.hotlb(arguments)?.expect_code(code)?;
        run.expect_one_line_error()?.expect_stderr(&[said])?;
    }
    host.hotlb(&["profile", "--diff", "gen1", "gen1", "--off-cpu"])?
        .expect_code(2)?
        .expect_stderr(&["--diff"])?;
    Ok(())
}

/// Has the agent see `text` at `path` instead of what is there, and asks for profiles with each of `arguments`.
fn with_file(
    path: &str,
    text: &str,
    arguments: &[&[&str]],
) -> Result<Vec<hotlb_tests::command::Run>> {
    mounts::in_private(|| {
        let mut host = Host::without_agent()?;
        host.write_config(&format!("[service.web]\n{SERVICE}\n"))?;
        let file = host.directory().join("instead");
        std::fs::write(&file, text)?;
        mounts::bind(&file, path.as_ref())?;
        host.start_agent()?;
        host.upgrade("gen1", &split::command("inside", &["--wait", "--spin"])?)?;
        arguments
            .iter()
            .map(|arguments| host.hotlb(arguments))
            .collect()
    })
}

#[test]
fn a_kernel_that_does_not_describe_its_types() -> Result<()> {
    let waiting: &[&str] = &["profile", "gen1", "--off-cpu", "--for", "1s"];
    let cpu: &[&str] = &["profile", "gen1", "--for", "1s"];
    let runs = with_file("/sys/kernel/btf/vmlinux", "", &[waiting, cpu])?;
    let mut runs = runs.into_iter();
    let run = runs.next().context("no run")?.expect_code(7)?;
    run.expect_one_line_error()?.expect_stderr(&[
        "waits cannot be profiled on this host",
        "/sys/kernel/btf/vmlinux",
        "5.18",
    ])?;
    runs.next().context("no run")?.expect_success()?;
    Ok(())
}

#[test]
fn a_kernel_that_is_known_to_lock_up() -> Result<()> {
    let cpu: &[&str] = &["profile", "gen1", "--for", "1s"];
    let fp: &[&str] = &["profile", "gen1", "--for", "1s", "--unwind", "fp"];
    let forced: &[&str] = &["profile", "gen1", "--for", "1s", "--force"];
    let doctor: &[&str] = &["doctor"];
    let release = "6.0.19-amd64\n";
    let runs = with_file(
        "/proc/sys/kernel/osrelease",
        release,
        &[cpu, fp, forced, doctor],
    )?;
    let mut runs = runs.into_iter();
    let run = runs.next().context("no run")?.expect_code(7)?;
    run.expect_one_line_error()?.expect_stderr(&[
        "6.0.19-amd64",
        "lock the whole host up",
        "#2070",
        "--force",
    ])?;
    runs.next().context("no run")?.expect_success()?;
    runs.next().context("no run")?.expect_success()?;
    let said = runs.next().context("no run")?.stdout;
    ensure!(said.contains("lock the whole host up"), "{said}");
    Ok(())
}
