//! Promise: IPv4, IPv6, dual-stack, and several addresses of one service, all moved by one store.

use anyhow::{Result, ensure};
use hotlb_tests::{
    everywhere,
    host::Host,
    report,
    servers::{CommandLine, Kind, Nginx, Plain, node},
};

/// Promotes through three generations and looks at every target after each.
fn story(
    listen: &str,
    targets: &[&str],
    server: impl Fn(&Host, &str) -> Result<CommandLine>,
) -> Result<()> {
    let host = Host::with_service(&format!("listen = [{listen}]"))?;
    let (web, outcomes) = everywhere::upgrades(&host, targets, 3, |name| server(&host, name))?;
    for outcome in outcomes {
        outcome.expect_none_lost()?;
    }
    ensure!(web.steering.exit("unselected")? == 0, "{:?}", web.steering);
    ensure!(
        web.generation("gen2")?
            .listeners
            .iter()
            .all(|listener| listener.steered),
        "{web:#?}"
    );
    Ok(())
}

#[test]
fn ipv4() -> Result<()> {
    story("\"127.0.0.1:8080\"", &["127.0.0.1:8080"], |_, name| {
        Plain::new(name).listen("127.0.0.1:8080").command()
    })
}

#[test]
fn ipv6() -> Result<()> {
    story("\"[::1]:8080\"", &["[::1]:8080"], |_, name| {
        Plain::new(name).listen("[::1]:8080").command()
    })
}

/// A server on `[::]` takes IPv4 clients as well, and `[::]` alone is declared.
#[test]
fn dual_stack_declared_alone() -> Result<()> {
    story(
        "\"[::]:8080\"",
        &["127.0.0.1:8080", "[::1]:8080"],
        |_, name| {
            Plain::new(name)
                .listen("[::]:8080")
                .flag("--dual-stack")
                .command()
        },
    )
}

#[test]
fn node_listens_dual_stack_by_default() -> Result<()> {
    if let Some(reason) = Kind::Node.missing() {
        return report::skip("node_listens_dual_stack_by_default", reason);
    }
    story(
        "\"[::]:8080\"",
        &["127.0.0.1:8080", "[::1]:8080"],
        |_, name| node::command(name, None, 8080),
    )
}

#[test]
fn ipv6_only_beside_ipv4() -> Result<()> {
    story(
        "\"0.0.0.0:8080\", \"[::]:8080\"",
        &["127.0.0.1:8080", "[::1]:8080"],
        |_, name| {
            Plain::new(name)
                .listen("0.0.0.0:8080")
                .listen("[::]:8080")
                .flag("--v6only")
                .command()
        },
    )
}

#[test]
fn nginx_on_both_families() -> Result<()> {
    if let Some(reason) = Kind::Nginx.missing() {
        return report::skip("nginx_on_both_families", reason);
    }
    story(
        "\"0.0.0.0:8080\", \"[::]:8080\"",
        &["127.0.0.1:8080", "[::1]:8080"],
        |host, name| {
            Nginx::new(name)
                .listen("0.0.0.0:8080")
                .listen("[::]:8080")
                .command(host.directory())
        },
    )
}

#[test]
fn two_ports_of_one_service() -> Result<()> {
    story(
        "\"0.0.0.0:8080\", \"0.0.0.0:8443\"",
        &["127.0.0.1:8080", "127.0.0.1:8443"],
        |_, name| {
            Plain::new(name)
                .listen("0.0.0.0:8080")
                .listen("0.0.0.0:8443")
                .command()
        },
    )
}

/// Two services do not meet: each has a word of its own.
#[test]
fn two_services_of_one_agent() -> Result<()> {
    let host = Host::with_config(
        "[service.web]\nlisten = [\"0.0.0.0:8080\"]\n[service.api]\nlisten = [\"0.0.0.0:9090\"]\n",
    )?;
    let (web, api) = ("127.0.0.1:8080".parse()?, "127.0.0.1:9090".parse()?);
    let deploy = |service: &str, generation: &str, port: u16| -> Result<()> {
        let mut arguments = vec![
            "deploy",
            "--service",
            service,
            "--generation",
            generation,
            "--",
        ];
        let line =
            Kind::Plain.command(host.directory(), &format!("{service}-{generation}"), port)?;
        arguments.extend(line.iter().map(String::as_str));
        host.ok(&arguments)?;
        host.ok(&["promote", "--service", service, generation])
            .map(drop)
    };
    deploy("web", "gen1", 8080)?;
    deploy("api", "gen1", 9090)?;
    host.expect_answers(web, 20, "web-gen1")?;
    host.expect_answers(api, 20, "api-gen1")?;
    deploy("api", "gen2", 9090)?;
    host.expect_answers(web, 20, "web-gen1")?;
    host.expect_answers(api, 20, "api-gen2")?;
    let undecided = host.hotlb(&["promote", "gen1"])?.expect_code(2)?;
    ensure!(
        undecided.stderr.contains("--service"),
        "{}",
        undecided.describe()
    );
    Ok(())
}
