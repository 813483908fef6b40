//! Promise: what hotlb does to a server's sockets changes nothing of what the server reads. Requests that are on their
//! way, or come, while their connection is asked to leave are read and answered, in whatever way the server reads.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    command,
    host::Host,
    kept::{Answer, Kept, content, expect_same},
    locate, polite, report,
    servers::{CommandLine, Nginx, nginx, nio, python, reader},
    wait,
};

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(10);
const SERVICE: &str = "listen = [\"127.0.0.1:8080\"]\n\
                       drain = { deadline = \"20s\", signal_after = \"20s\" }";
/// More than a socket's queue holds at first.
const UPLOAD: usize = 1 << 20;
/// Lengths of a cookie: below and above the first buffer of nginx (1 KiB), and far above it.
const COOKIES: [usize; 3] = [100, 2000, 7000];

/// A kept connection that is answered before the drain.
fn kept(host: &Host) -> Result<Kept> {
    let mut kept = Kept::open(host.netns(), TARGET.parse()?)?;
    kept.get("/", 0)?;
    Ok(kept)
}

/// Sends the head of an upload to `path` and half of it.
fn begun_upload(host: &Host, path: &str) -> Result<Kept> {
    let mut client = kept(host)?;
    client.send(
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {UPLOAD}\r\n\r\n")
            .as_bytes(),
    )?;
    client.send(&vec![b'u'; UPLOAD / 2])?;
    Ok(client)
}

/// Sends the rest, and expects that all of it was read.
fn ended_upload(mut client: Kept) -> Result<()> {
    client.send(&vec![b'u'; UPLOAD / 2])?;
    let said = client.answer()?.text();
    ensure!(said == format!("gen1 {UPLOAD}\n"), "{said}");
    Ok(())
}

/// Has `command`'s generations replaced while `during` goes on; it runs once the former one drains and its clients
/// are asked, and is told whether they are.
fn while_it_drains<T>(
    host: &Host,
    command: impl Fn(&str) -> Result<CommandLine>,
    asked: u64,
    during: impl FnOnce(bool) -> Result<T>,
) -> Result<T> {
    host.deploy("gen2", &command("gen2")?)?;
    let promote = host.start_hotlb(&["promote", "gen2"])?;
    let asks = polite::way(&host.web()?.polite)?.asks();
    let all = if asks { asked } else { 0 };
    wait::until_true("the former generation drains", LIMIT, || {
        host.web().is_ok_and(|web| {
            let drains = |name: &str| {
                let mut found = web.generations.iter();
                found.any(|g| g.name == name && g.state == "draining")
            };
            drains("gen1") && web.polite.leaving == all
        })
    })?;
    let outcome = during(asks);
    drop(promote.finish(LIMIT * 3)?);
    outcome
}

/// Cookies of some kilobytes are what a request has that a reader reads in more than one piece; a file of some size is
/// what is sent without being written.
#[test]
fn long_heads_are_read_by_nginx() -> Result<()> {
    if nginx::binary().is_none() {
        return report::skip("reading: nginx", "nginx is not installed");
    }
    let host = Host::with_service(SERVICE)?;
    let root = host.directory().join("files");
    fs::create_dir(&root)?;
    let file = content("one.bin", 1 << 20);
    fs::write(root.join("one.bin"), &file)?;
    let command = |name: &str| {
        let nginx = Nginx::new(name).listen(TARGET).files(&root);
        nginx.command(host.directory())
    };
    host.upgrade("gen1", &command("gen1")?)?;
    let mut clients = Vec::new();
    for cookie in COOKIES {
        clients.push((cookie, kept(&host)?));
    }
    while_it_drains(&host, command, COOKIES.len() as u64, |asks| {
        for (cookie, client) in &mut clients {
            for path in ["/files/one.bin", "/"] {
                let said = client.get(path, *cookie);
                let said = said.with_context(|| format!("with {cookie} bytes of cookies"))?;
                ensure!(said.asks_to_leave() == asks, "{}", said.head);
                if path == "/" {
                    ensure!(said.text().contains("gen1"), "{}", said.text());
                } else {
                    expect_same(path, &said.body, &file)?;
                }
            }
        }
        clients.clear();
        Ok(())
    })
}

/// Uploads that are half way when the drain begins, and requests of some kilobytes that come during it.
fn reads_all(
    command: impl Fn(&str) -> Result<CommandLine>,
    host: &Host,
    ways: &[&str],
) -> Result<()> {
    host.upgrade("gen1", &command("gen1")?)?;
    let mut uploads = Vec::new();
    for &path in ways {
        uploads.push((path, begun_upload(host, path)?));
    }
    let mut idle = Vec::new();
    for cookie in COOKIES {
        idle.push((cookie, kept(host)?));
    }
    let all = (ways.len() + COOKIES.len()) as u64;
    while_it_drains(host, command, all, |asks| {
        for (cookie, client) in &mut idle {
            let said = client.get("/", *cookie);
            let said = said.with_context(|| format!("with {cookie} bytes of cookies"))?;
            ensure!(said.text() == "gen1 0\n", "{}", said.text());
            ensure!(said.asks_to_leave() == asks, "{}", said.head);
        }
        idle.clear();
        for (path, client) in uploads {
            ended_upload(client).with_context(|| format!("the upload to {path}"))?;
        }
        Ok(())
    })
}

#[test]
fn uploads_are_read_in_every_way() -> Result<()> {
    if python::binary().is_none() {
        return report::skip("reading: in every way", "python3 is not installed");
    }
    let host = Host::with_service(SERVICE)?;
    let command = |name: &str| reader::command(host.directory(), name, "127.0.0.1", 8080);
    reads_all(command, &host, &reader::WAYS)
}

#[test]
fn uploads_are_read_by_java() -> Result<()> {
    if nio::binary().is_none() {
        return report::skip("reading: Java", "java or javac is not installed");
    }
    // As Java's listen by default: for both families, so that clients of IPv4 are at a socket of IPv6.
    let host = Host::with_service(&SERVICE.replace("127.0.0.1", "[::]"))?;
    let command = |name: &str| nio::command(host.directory(), name, "::", 8080);
    reads_all(command, &host, &["/"])
}

/// What is lost is sent again, in other pieces, and changed once more. Bytes and answers are judged, not times.
#[test]
fn nothing_changes_when_packets_are_lost() -> Result<()> {
    if nginx::binary().is_none() || locate::program("nft").is_none() {
        return report::skip("reading: loss", "nginx or nft is not installed");
    }
    let host = Host::with_service(SERVICE)?;
    let root = host.directory().join("files");
    fs::create_dir(&root)?;
    let file = content("file.bin", 300_000);
    fs::write(root.join("file.bin"), &file)?;
    let command = |name: &str| {
        let nginx = Nginx::new(name).listen(TARGET).files(&root);
        nginx.command(host.directory())
    };
    // Heads that do not begin a packet's own piece, as over a real device.
    in_netns(&host, "ip", &["link", "set", "lo", "mtu", "1500"])?;
    host.upgrade("gen1", &command("gen1")?)?;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(kept(&host)?);
    }
    let reference = kept(&host)?.get("/files/file.bin", 0)?.head;
    let count = clients.len();
    let lose = "add table ip loss; \
                add chain ip loss lose { type filter hook input priority 0; }; \
                add rule ip loss lose tcp sport 8080 numgen random mod 100 < 8 drop; \
                add rule ip loss lose tcp dport 8080 numgen random mod 100 < 8 drop";
    let answers = while_it_drains(&host, command, count as u64, |asks| {
        in_netns(&host, "nft", &[lose])?;
        let answers = thread::scope(|scope| -> Result<Vec<Answer>> {
            let each = clients.into_iter().map(|mut client| {
                scope.spawn(move || -> Result<Vec<Answer>> {
                    let times = [100, 2000, 7000].into_iter();
                    times
                        .map(|cookie| client.get("/files/file.bin", cookie))
                        .collect()
                })
            });
            let mut all = Vec::new();
            for thread in each.collect::<Vec<_>>() {
                let answers = thread.join();
                all.extend(answers.map_err(|panic| anyhow::anyhow!("a client: {panic:?}"))??);
            }
            Ok(all)
        });
        in_netns(&host, "nft", &["delete table ip loss"])?;
        answers.map(|answers| (asks, answers))
    })?;
    let (asks, answers) = answers;
    let changed = reference.replace("keep-alive", "close     ");
    let mut asked = 0;
    for answer in &answers {
        expect_same("a file", &answer.body, &file)?;
        asked += usize::from(answer.head == changed);
        ensure!(
            answer.head == reference || answer.head == changed,
            "{}",
            answer.head
        );
    }
    report::figure(
        "polite: clients that were asked while 8 % of the packets were lost",
        format!("{asked} of {}", answers.len()),
    );
    ensure!(answers.len() == 3 * count, "{} answers", answers.len());
    // A client whose server still waits for an acknowledgement is asked in a later response.
    ensure!(
        if asks {
            asked * 2 > answers.len()
        } else {
            asked == 0
        },
        "{asked} of {}",
        answers.len()
    );
    Ok(())
}

fn in_netns(host: &Host, program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = host.netns().command(program);
    command::run(command.args(arguments), LIMIT)?
        .expect_success()
        .map(drop)
}

/// `polite = "on"` opens only where clients can be asked without harm, and says why it does not.
#[test]
fn insisting_on_politeness_is_refused_where_it_would_harm() -> Result<()> {
    let mut host = Host::with_service(SERVICE)?;
    let polite = host.web()?.polite;
    let asked = polite::way(&polite)?.asks();
    ensure!(asked != polite.why_not.is_some(), "{polite:?}");
    let warned =
        host.web()?.warnings.iter().any(|warning| {
            warning.starts_with("clients are not asked to leave a draining generation")
        });
    ensure!(warned != asked, "{polite:?}");
    host.kill_agent()?;
    host.write_config(
        "[service.web]\nlisten = [\"127.0.0.1:8080\"]\ndrain = { polite = \"on\" }\n",
    )?;
    let started = host.start_agent();
    ensure!(started.is_ok() == asked, "{started:?}");
    if let Err(error) = started {
        let said = format!("{error:#}");
        ensure!(
            said.contains("drain.polite is \"on\"") && said.contains("FIONREAD"),
            "{said}"
        );
    }
    Ok(())
}
