//! Promise: a rollout is one connected trace at an OTLP collector, whatever happens to the collector or the agent, and
//! the collector is in nobody's way.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    command::Run,
    exposition::{Exposition, OPENMETRICS},
    history,
    host::Host,
    otlp::{self, Receiver, Speaks, Trace},
    report,
    servers::Kind,
    wait,
};
use serde_json::Value;

const GRPC: &str = "127.0.0.1:4317";
const HTTP: &str = "127.0.0.1:4318";
const TO_GRPC: &str = "[traces]\nendpoint = \"http://127.0.0.1:4317\"\n";
const SERVICE: &str = "[service.web]\nlisten = [\"0.0.0.0:8080\"]\n";
/// Longer than the longest time between two tries.
const LIMIT: Duration = Duration::from_secs(30);

/// An agent with this configuration above its service; `gen1` is active.
fn scene(config: &str) -> Result<Host> {
    let host = Host::with_config(&format!("{config}{SERVICE}"))?;
    host.upgrade("gen1", &server(&host, "gen1")?)?;
    Ok(host)
}

fn server(host: &Host, generation: &str) -> Result<Vec<String>> {
    Kind::Plain.command(host.directory(), generation, 8080)
}

fn receiver(host: &Host, address: &str, speaks: Speaks) -> Result<Receiver> {
    Receiver::start(host.netns(), address.parse::<SocketAddr>()?, speaks)
}

/// `hotlb upgrade` to `generation`, with these options, whatever comes of it.
fn upgrade(host: &Host, generation: &str, options: &[&str]) -> Result<Run> {
    let server = server(host, generation)?;
    let mut arguments = vec!["upgrade", "--generation", generation];
    arguments.extend(options);
    arguments.push("--");
    arguments.extend(server.iter().map(String::as_str));
    host.hotlb(&arguments)
}

/// The trace of the newest rollout, once it is there, and what the journal says of that rollout.
fn newest(host: &Host, receiver: &Receiver) -> Result<(Trace, Value)> {
    history::wait_all_over(host)?;
    let told = history::last(host)?;
    let id = history::text(&told, "/trace").context("no trace")?;
    let trace = wait::until("the newest rollout's trace arrives", LIMIT, || {
        let traces = Trace::all(&receiver.received());
        traces.into_iter().find(|trace| trace.id == id)
    });
    let trace = trace.with_context(|| format!("{told:#}\n{}", host.agent_log()))?;
    Ok((trace, told))
}

/// Fails unless the phases of a trace have the journal's times, and add up to the whole.
fn expect_times(trace: &Trace, told: &Value) -> Result<()> {
    let root = trace.connected(None)?;
    let entries = told.pointer("/entries").and_then(Value::as_array);
    let mut moments: Vec<i64> = Vec::new();
    for entry in entries.context("entries")? {
        if history::text(entry, "/record/kind") == Some("phase") {
            moments.push(
                entry
                    .pointer("/at_ms")
                    .and_then(Value::as_i64)
                    .context("at_ms")?,
            );
        }
    }
    let number = |name: &str| told.pointer(name).and_then(Value::as_i64).context("a time");
    moments.push(number("/began_ms")? + number("/took_ms")?);
    let phases = trace.below(root);
    let lengths: Vec<u64> = phases.iter().map(|span| otlp::millis(span)).collect();
    let later = moments.iter().skip(1).zip(&moments);
    let journal: Vec<u64> = later
        .map(|(next, moment)| u64::try_from(next - moment))
        .collect::<Result<_, _>>()?;
    ensure!(lengths == journal, "{lengths:?} are not {journal:?}");
    let (sum, whole) = (lengths.iter().sum::<u64>(), otlp::millis(root));
    ensure!(whole.abs_diff(sum) <= 5, "{sum} ms of {whole} ms");
    report::figure(
        "trace: phases and rollout, ms",
        format!("{lengths:?} {whole}"),
    );
    Ok(())
}

#[test]
fn a_rollout_is_one_connected_trace() -> Result<()> {
    let config = format!(
        "{TO_GRPC}service_name = \"hotlb-here\"\nheaders = {{ X-Tenant = \"ops\" }}\n\
         attributes = {{ deployment = \"test\" }}\n"
    );
    let host = scene(&config)?;
    let receiver = receiver(&host, GRPC, Speaks::Grpc)?;
    let given = host.directory().join("given");
    let hook = format!(
        "validate=echo $TRACEPARENT > {}; echo fine",
        given.display()
    );
    let options = [
        "--hook",
        hook.as_str(),
        "--hook",
        "swap=true",
        "--bake",
        "300ms",
    ];
    upgrade(&host, "gen2", &options)?.expect_success()?;
    let (trace, told) = newest(&host, &receiver)?;
    let root = trace.connected(None)?;
    ensure!(root.name == "upgrade", "{root:#?}");
    let attribute = |name| otlp::attribute(root, name);
    ensure!(
        attribute("hotlb.service").as_deref() == Some("web"),
        "{root:#?}"
    );
    ensure!(
        attribute("hotlb.from").as_deref() == Some("gen1"),
        "{root:#?}"
    );
    ensure!(
        attribute("hotlb.to").as_deref() == Some("gen2"),
        "{root:#?}"
    );
    ensure!(
        attribute("hotlb.outcome").as_deref() == Some("done"),
        "{root:#?}"
    );
    ensure!(
        attribute("user.name").as_deref() == Some("root"),
        "{root:#?}"
    );
    let names: Vec<_> = trace
        .below(root)
        .iter()
        .map(|span| span.name.clone())
        .collect();
    ensure!(
        names == ["pre_load", "validate", "swap", "bake", "drain"],
        "{names:?}"
    );
    expect_times(&trace, &told)?;
    report::remark(trace.drawn()?);

    let hook = trace.span("hook validate")?;
    let phase = trace.span("validate")?;
    ensure!(hook.parent_span_id == phase.span_id, "{hook:#?}");
    ensure!(otlp::attribute(hook, "hotlb.hook.output").as_deref() == Some("fine"));
    ensure!(otlp::attribute(hook, "hotlb.hook.outcome").as_deref() == Some("succeeded"));
    let expected = format!("00-{}-{}-01", trace.id, otlp::hex(&hook.span_id));
    ensure!(
        fs::read_to_string(&given)?.trim() == expected,
        "not {expected}"
    );
    for (probe, phase) in [
        ("probe candidate", "validate"),
        ("probe active", "swap"),
        ("probe bake", "bake"),
    ] {
        let (probe, phase) = (trace.span(probe)?, trace.span(phase)?);
        ensure!(probe.parent_span_id == phase.span_id, "{probe:#?}");
    }
    let errors = trace.spans.iter().filter_map(otlp::error).count();
    ensure!(errors == 0, "{trace:#?}");

    let received = receiver.received();
    let one = received.first().context("a span")?;
    let resource = |name: &str| one.resource.get(name).map(String::as_str);
    ensure!(resource("service.name") == Some("hotlb-here"), "{one:#?}");
    ensure!(resource("deployment") == Some("test"), "{one:#?}");
    ensure!(resource("service.version").is_some(), "{one:#?}");
    ensure!(
        one.headers
            .get("x-tenant")
            .is_some_and(|said| said == "ops"),
        "{one:#?}"
    );
    Ok(())
}

#[test]
fn a_failed_hook_is_an_error_with_its_reason() -> Result<()> {
    let host = scene(TO_GRPC)?;
    let receiver = receiver(&host, GRPC, Speaks::Grpc)?;
    let options = [
        "--hook",
        "validate=echo no good; exit 3",
        "--hook",
        "post_rollback=true",
    ];
    upgrade(&host, "gen2", &options)?.expect_code(1)?;
    let (trace, told) = newest(&host, &receiver)?;
    let root = trace.connected(None)?;
    expect_times(&trace, &told)?;
    let reason = otlp::error(root).context("the rollout is no error")?;
    ensure!(reason.contains("exited with code 3"), "{reason}");
    let phase = trace.span("validate")?;
    ensure!(otlp::error(phase).is_some(), "{phase:#?}");
    let hook = trace.span("hook validate")?;
    ensure!(otlp::error(hook) == Some("exited with code 3"), "{hook:#?}");
    ensure!(otlp::attribute(hook, "hotlb.hook.output").as_deref() == Some("no good"));
    let undone = trace.span("hook post_rollback")?;
    ensure!(undone.parent_span_id == trace.span("post_rollback")?.span_id);
    ensure!(otlp::error(undone).is_none(), "{undone:#?}");
    Ok(())
}

/// The caller's span becomes the parent: from the option, from the environment, and over HTTP to the collector too.
#[test]
fn a_rollout_belongs_to_the_callers_trace() -> Result<()> {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let host = scene("[traces]\nendpoint = \"http://127.0.0.1:4318\"\nprotocol = \"http\"\n")?;
    let receiver = receiver(&host, HTTP, Speaks::Http)?;
    receiver.wait_traces(1, LIMIT)?;
    let parent = |span: &str, flags: &str| format!("00-{TRACE}-{span}-{flags}");
    let option = parent("b7ad6b7169203331", "01");
    upgrade(&host, "gen2", &["--traceparent", &option])?.expect_success()?;
    let (trace, _) = newest(&host, &receiver)?;
    ensure!(trace.id == TRACE, "{trace:#?}");
    trace.connected(Some("b7ad6b7169203331"))?;

    let mut rollback = host.command(host.binary());
    rollback
        .arg("rollback")
        .env("TRACEPARENT", parent("00f067aa0ba902b7", "01"));
    hotlb_tests::command::run(&mut rollback, LIMIT)?.expect_success()?;
    let second = wait::until("the rollback is in the trace", LIMIT, || {
        let (trace, _) = newest(&host, &receiver).ok()?;
        trace.span("rollback").ok().cloned()
    })?;
    ensure!(
        otlp::hex(&second.parent_span_id) == "00f067aa0ba902b7",
        "{second:#?}"
    );
    ensure!(
        otlp::error(&second).is_none(),
        "asked for, and done: {second:#?}"
    );

    // A caller that does not record gets nothing recorded; one that cannot be read is none.
    let before = receiver.received().len();
    let unsampled = format!("00-{}-b7ad6b7169203331-00", "1".repeat(32));
    upgrade(&host, "gen3", &["--traceparent", &unsampled])?.expect_success()?;
    let mut last = host.command(host.binary());
    last.args(["rollback"]).env("TRACEPARENT", "nonsense");
    hotlb_tests::command::run(&mut last, LIMIT)?.expect_success()?;
    let (trace, _) = newest(&host, &receiver)?;
    trace.connected(None)?;
    let later: Vec<_> = receiver.received().split_off(before);
    ensure!(Trace::all(&later).len() == 1, "{later:#?}");
    upgrade(&host, "gen4", &["--traceparent", "nonsense"])?
        .expect_code(2)?
        .expect_stderr(&["is not a traceparent"])?;
    Ok(())
}

/// How long the collector is away: a minute with `HOTLB_FULL`.
fn outage() -> Duration {
    let full = std::env::var_os("HOTLB_FULL").is_some();
    if full {
        Duration::from_mins(1)
    } else {
        Duration::from_secs(3)
    }
}

#[test]
fn nothing_is_lost_while_the_collector_is_down() -> Result<()> {
    let down = Instant::now();
    let mut host = scene(TO_GRPC)?;
    for generation in ["gen2", "gen3"] {
        upgrade(&host, generation, &[])?.expect_success()?;
    }
    wait::until_true("the agent says so", LIMIT, || {
        host.agent_log()
            .contains("failed to send the trace of a rollout")
    })?;
    // What an agent did not get rid of the next one does.
    host.kill_agent()?;
    host.start_agent()?;
    let outage = outage();
    wait::until_true("the outage is over", outage * 2, || {
        down.elapsed() >= outage
    })?;
    // The agent has tried for so long by now that it tries seldom.
    upgrade(&host, "gen4", &[])?.expect_success()?;
    let down = down.elapsed();
    let receiver = receiver(&host, GRPC, Speaks::Grpc)?;
    let began = Instant::now();
    let traces = receiver.wait_traces(4, LIMIT)?;
    for trace in &traces {
        trace.connected(None)?;
    }
    ensure!(traces.len() == 4, "{traces:#?}");
    let dropped = Exposition::of(&host, OPENMETRICS)?.value("hotlb_traces_dropped_total", &[])?;
    ensure!(dropped < 0.5, "{dropped} dropped");
    report::figure("traces: collector was down, s", down.as_secs());
    report::figure(
        "traces: collector is back, until all are there, ms",
        began.elapsed().as_millis(),
    );
    Ok(())
}

/// A collector that takes connections and never answers, beside none at all.
#[test]
fn a_collector_that_hangs_delays_nobody() -> Result<()> {
    let median = |config: &str| -> Result<Duration> {
        let host = scene(config)?;
        let _mute = receiver(&host, GRPC, Speaks::Nothing)?;
        host.deploy("gen2", &server(&host, "gen2")?)?;
        let mut times = Vec::new();
        for round in 0..10 {
            let generation = ["gen2", "gen1"][round % 2];
            wait::until_true("the candidate can be promoted", LIMIT, || {
                host.generation(generation)
                    .is_ok_and(|found| ["ready", "standby"].contains(&found.state.as_str()))
            })?;
            times.push(host.ok(&["promote", generation, "--no-wait"])?.took);
        }
        let mut agent = host;
        let began = Instant::now();
        agent.agent()?.signal(nix::sys::signal::Signal::SIGTERM)?;
        agent.agent()?.wait(LIMIT)?;
        ensure!(
            began.elapsed() < Duration::from_secs(4),
            "its end took {:?}",
            began.elapsed()
        );
        times.sort();
        Ok(times[times.len() / 2])
    };
    let without = median("")?;
    let with = median(TO_GRPC)?;
    report::figure(
        "promote without traces, median ms",
        without.as_secs_f64() * 1000.0,
    );
    report::figure(
        "promote with a mute collector, median ms",
        with.as_secs_f64() * 1000.0,
    );
    ensure!(
        with < without * 2 + Duration::from_millis(100),
        "{with:?}, else {without:?}"
    );
    Ok(())
}

#[test]
fn a_rollout_of_three_agents_is_one_trace() -> Result<()> {
    let mut host = scene(TO_GRPC)?;
    let receiver = receiver(&host, GRPC, Speaks::Grpc)?;
    upgrade(&host, "gen2", &["--bake", "8s", "--no-wait"])?.expect_success()?;
    // Who does not wait is told a moment before it is written down.
    wait::until_true("the bake is in the journal", LIMIT, || {
        history::last(&host).is_ok_and(|told| history::phases(&told).contains(&"bake"))
    })?;
    host.kill_agent()?;
    host.start_agent()?;
    host.ok(&["agent", "upgrade"])?;
    let (trace, told) = newest(&host, &receiver)?;
    let root = trace.connected(None)?;
    let bakes = trace.below(root);
    let bakes = bakes.iter().filter(|span| span.name == "bake").count();
    ensure!(bakes == 3, "one for each agent: {trace:#?}");
    expect_times(&trace, &told)
}

#[test]
fn a_full_queue_gives_up_the_oldest_and_counts() -> Result<()> {
    let host = scene(&format!("{TO_GRPC}queue = 2\n"))?;
    for generation in ["gen2", "gen3", "gen4"] {
        upgrade(&host, generation, &[])?.expect_success()?;
    }
    let given_up = host.agent_log().matches("dropped traces").count();
    ensure!(given_up == 2, "{}", host.agent_log());
    let receiver = receiver(&host, GRPC, Speaks::Grpc)?;
    let traces = receiver.wait_traces(2, LIMIT)?;
    ensure!(traces.len() == 2, "{traces:#?}");
    let to = |trace: &Trace| otlp::attribute(trace.connected(None)?, "hotlb.to").context("to");
    let mut kept = traces.iter().map(to).collect::<Result<Vec<_>>>()?;
    // One that was tried in vain waits for the others.
    kept.sort_unstable();
    ensure!(kept == ["gen3", "gen4"], "{kept:?}");
    Ok(())
}

/// The variables every program with OpenTelemetry knows.
#[test]
fn the_standard_variables_are_enough() -> Result<()> {
    let mut host = Host::without_agent()?;
    host.write_config(SERVICE)?;
    let receiver = receiver(&host, HTTP, Speaks::Http)?;
    host.start_agent_with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=env"),
        ("OTEL_SERVICE_NAME", "named"),
    ])?;
    host.upgrade("gen1", &server(&host, "gen1")?)?;
    let trace = receiver.wait_traces(1, LIMIT)?.remove(0);
    ensure!(trace.connected(None)?.name == "promote", "{trace:#?}");
    let one = receiver.received().remove(0);
    ensure!(
        one.resource
            .get("service.name")
            .is_some_and(|name| name == "named"),
        "{one:#?}"
    );
    ensure!(
        one.headers
            .get("x-tenant")
            .is_some_and(|said| said == "env"),
        "{one:#?}"
    );
    Ok(())
}

/// Every line is a JSON value; those of a rollout carry its ids, and what the kernel's programs say is among them.
#[test]
fn the_log_has_the_same_ids() -> Result<()> {
    let host = Host::with_config(&format!(
        "[log]\nformat = \"json\"\nlevel = \"debug\"\n{TO_GRPC}{SERVICE}"
    ))?;
    host.upgrade("gen1", &server(&host, "gen1")?)?;
    upgrade(&host, "gen2", &["--hook", "validate=exit 3"])?.expect_code(1)?;
    // It binds a port of the service, at an address that is not declared.
    let wrong = Kind::Plain.command(host.directory(), "gen3", 8080)?;
    let wrong: Vec<String> = wrong
        .iter()
        .map(|word| word.replace("0.0.0.0:8080", "127.0.0.1:8080"))
        .collect();
    host.try_deploy("gen3", &wrong)?.expect_code(1)?;
    let told = history::last(&host)?;
    let (id, trace) = (history::text(&told, "/id"), history::text(&told, "/trace"));
    let log = host.agent_log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")))
        .collect::<Result<_>>()?;
    let ours = |line: &&Value| history::text(line, "/span/trace_id") == trace;
    let ours: Vec<_> = lines.iter().filter(ours).collect();
    let says = |text: &str| {
        let found = ours
            .iter()
            .find(|line| history::text(line, "/fields/message") == Some(text));
        found.with_context(|| format!("nobody says {text}: {log}"))
    };
    for text in ["failed to complete a phase", "rollout is over"] {
        let line = says(text)?;
        ensure!(history::text(line, "/span/rollout") == id, "{line}");
        ensure!(
            history::text(line, "/span/service") == Some("web"),
            "{line}"
        );
    }
    let of_kernel = |line: &&Value| {
        history::text(line, "/fields/message").is_some_and(|text| text.contains("is not declared"))
    };
    wait::until_true("the kernel's programs are heard", LIMIT, || {
        let log = host.agent_log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .collect::<Vec<_>>()
            .iter()
            .any(|line| of_kernel(&line))
    })
    .with_context(|| host.agent_log())
}
