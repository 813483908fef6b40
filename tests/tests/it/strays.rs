//! Promise: a socket that takes a service's clients past its groups, or could, is refused where it is the service's own,
//! and found within a second where it is somebody else's.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hotlb_tests::{
    exposition::{Exposition, TEXT},
    host::Host,
    netns::Netns,
    process::Process,
    report,
    servers::{CommandLine, Plain, Udp, python},
    wait,
};

/// Found once a second, by a list that may be a fifth of a second old; then /proc is read.
const NOTICED: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(10);

/// A process in python: `t` and `u` are sockets of TCP and UDP that share their port, `o` sets an option.
fn python(body: &str) -> Result<CommandLine> {
    let python = python::binary().context("python3 is not installed")?;
    let script = format!(
        "import socket,time,ctypes,struct\n\
         def new(kind):\n    \
         s=socket.socket(socket.AF_INET,kind); s.setsockopt(1,2,1); s.setsockopt(1,15,1); return s\n\
         t,u=new(socket.SOCK_STREAM),new(socket.SOCK_DGRAM)\n{body}\ntime.sleep(600)\n"
    );
    Ok(vec![python.display().to_string(), "-c".to_owned(), script])
}

/// `web` has `gen1` active at 0.0.0.0:8080, and so has `dns` by UDP.
fn host(keys: &str) -> Result<Host> {
    let host = Host::with_config(&format!(
        "[service.web]\nlisten = [\"0.0.0.0:8080\"]\nready_timeout = \"3s\"\n{keys}\n\
         [service.dns]\nlisten = [\"udp://0.0.0.0:8080\"]\nready_timeout = \"3s\"\nflow = \"none\"\n{keys}\n"
    ))?;
    let plain = Plain::new("gen1").listen("0.0.0.0:8080").command()?;
    host.upgrade_of("web", "gen1", &plain)?;
    host.upgrade_of("dns", "gen1", &Udp::new("gen1", 8080).command()?)?;
    Ok(host)
}

fn warnings(host: &Host, service: &str) -> Result<Vec<String>> {
    Ok(host.status()?.service(service)?.warnings.clone())
}

fn counted(host: &Host, service: &str) -> Result<String> {
    let scraped = Exposition::of(host, TEXT)?;
    let label = format!("service=\"{service}\"");
    let values = scraped.values("hotlb_stray_sockets", &[&label])?;
    let count = values.first().context("no such metric")?;
    Ok(count.to_string())
}

/// A process outside hotlb that does this, until it has been named in a warning with all of `parts`.
fn is_named(host: &Host, service: &str, body: &str, parts: &[&str]) -> Result<Process> {
    let begun = Instant::now();
    let outside = host.start_beside(&python(body)?)?;
    let pid = format!("(pid {})", outside.pid());
    wait::until("the socket is named", NOTICED, || {
        let warnings = warnings(host, service).ok()?;
        let names = |text: &&String| text.contains(&pid) && parts.iter().all(|p| text.contains(p));
        warnings.iter().find(names).cloned()
    })
    .with_context(|| format!("{body}: {:?}", warnings(host, service)))?;
    let took = begun.elapsed().as_millis();
    report::figure(&format!("strays: {service} named after, ms"), took);
    ensure!(counted(host, service)? == "1", "not counted");
    Ok(outside)
}

#[test]
fn a_process_outside_is_named_and_counted() -> Result<()> {
    let host = host("")?;
    for (service, socket, listen) in [("web", "t", "; t.listen(9)"), ("dns", "u", "")] {
        for (body, parts) in [
            (
                "S.bind(('127.0.0.1',8080))",
                ["127.0.0.1:8080", "takes clients"],
            ),
            (
                "S.setsockopt(1,25,b'lo\\0'); S.bind(('0.0.0.0',8080))",
                ["on device lo", "takes clients of that device"],
            ),
            (
                "S.bind(('0.0.0.0',8080))",
                ["0.0.0.0:8080", "without being a generation"],
            ),
        ] {
            let body = format!("{}{listen}", body.replace('S', socket));
            let mut outside = is_named(&host, service, &body, &parts)?;
            outside.kill()?;
            wait::until_true("nothing is said any more", NOTICED, || {
                let silent = warnings(&host, service).is_ok_and(|all| all.is_empty());
                silent && counted(&host, service).is_ok_and(|count| count == "0")
            })?;
        }
    }
    let log = host.agent_log();
    ensure!(
        log.contains("found a socket at the service's port outside its groups"),
        "{log}"
    );
    Ok(())
}

/// Which address is whose is the configuration's word, not the order in which they came.
#[test]
fn what_another_service_has_declared_is_its_own() -> Result<()> {
    let host = Host::with_config(
        "[service.web]\nlisten = [\"0.0.0.0:8080\"]\n\
         [service.own]\nlisten = [\"127.0.0.2:8080\"]\n\
         [service.other]\nlisten = [\"127.0.0.1:9090\"]\n",
    )?;
    for (service, address) in [("web", "0.0.0.0:8080"), ("own", "127.0.0.2:8080")] {
        let server = Plain::new("gen1").listen(address).command()?;
        host.upgrade_of(service, "gen1", &server)?;
    }
    // The server of another service, which has declared something else.
    let server = python(
        "t.bind(('127.0.0.1',9090)); t.listen(9)\nx=new(socket.SOCK_STREAM)\n\
         x.bind(('127.0.0.3',8080)); x.listen(9)\nwhile True:\n    c,_=t.accept(); c.close()",
    )?;
    host.upgrade_of("other", "gen1", &server)?;
    wait::until("the server of the other service is named", NOTICED, || {
        let warnings = warnings(&host, "web").ok()?;
        let named = warnings.iter().find(|text| text.contains("127.0.0.3:8080"));
        named.map(drop)
    })?;
    ensure!(
        counted(&host, "web")? == "1",
        "{:?}",
        warnings(&host, "web")?
    );
    ensure!(
        counted(&host, "own")? == "0",
        "{:?}",
        warnings(&host, "own")?
    );
    Ok(())
}

/// It stays in its group, and may have what it likes at other ports.
#[test]
fn a_server_is_refused_a_device_at_its_own_port_only() -> Result<()> {
    let host = host("")?;
    let target: SocketAddr = "127.0.0.1:8080".parse()?;
    let tries = |socket: &str| {
        // To give up a device that it does not have takes a UDP socket out of its group, too.
        let reset = match socket {
            "u" => "refused(lambda: u.setsockopt(1,25,b'')); refused(lambda: u.setsockopt(1,62,0))",
            _ => "t.setsockopt(1,25,b''); t.setsockopt(1,62,0)",
        };
        format!(
            "no=[]\n\
             def refused(do):\n    \
             try: do(); no.append('allowed')\n    \
             except PermissionError: pass\n\
             lo=socket.if_nametoindex('lo')\n\
             refused(lambda: {socket}.setsockopt(1,25,b'lo\\0'))\n\
             refused(lambda: {socket}.setsockopt(1,25,b'lo'))\n\
             refused(lambda: {socket}.setsockopt(1,62,lo))\n\
             {reset}\n\
             free=new(socket.SOCK_STREAM); free.bind(('0.0.0.0',9999)); free.setsockopt(1,25,b'lo\\0')\n\
             early=new(socket.SOCK_DGRAM); early.setsockopt(1,25,b'lo\\0'); early.bind(('0.0.0.0',9998))\n\
             assert not no, no\n"
        )
    };
    let web = python(&format!(
        "t.bind(('0.0.0.0',8080)); t.listen(9)\n{}\nwhile True:\n    \
         c,_=t.accept(); c.recv(9999)\n    \
         c.sendall(b'HTTP/1.1 200 OK\\r\\nX-Generation: gen2\\r\\nConnection: close\\r\\nContent-Length: 5\\r\\n\\r\\ngen2\\n'); c.close()",
        tries("t")
    ))?;
    host.upgrade_of("web", "gen2", &web)?;
    host.expect_answers(target, 20, "gen2")?;
    let log = host.agent_log();
    ensure!(log.contains("was refused device lo"), "{log}");
    let dns = python(&format!(
        "u.bind(('0.0.0.0',8080))\n{}\nwhile True:\n    _,a=u.recvfrom(9999); u.sendto(b'gen2',a)",
        tries("u")
    ))?;
    host.deploy_of("dns", "gen2", &dns)?;
    Ok(())
}

/// Of a server's own: a classic filter needs no rights.
const FILTER: &str = "code=ctypes.create_string_buffer(struct.pack('HBBI',6,0,0,0))\n\
                      filter=struct.pack('HxxxxxxQ',1,ctypes.addressof(code))\n";

#[test]
fn a_server_attaches_no_program_where_that_is_configured() -> Result<()> {
    for (keys, refuses) in [("", false), ("foreign_program = \"refuse\"", true)] {
        let host = host(keys)?;
        let attaches = |option: u32, value: &str| {
            python(&format!(
                "{FILTER}t.bind(('0.0.0.0',8080)); t.listen(9)\nt.setsockopt(1,{option},{value})\n\
                 while True:\n    c,_=t.accept(); c.close()"
            ))
        };
        for (name, option, value) in [("gen2", 51, "filter"), ("gen3", 68, "0")] {
            let run = host.hotlb(
                &[
                    &["deploy", "--service", "web", "--generation", name, "--"][..],
                    &attaches(option, value)?
                        .iter()
                        .map(String::as_str)
                        .collect::<Vec<_>>(),
                ]
                .concat(),
            )?;
            if refuses {
                let why = "was refused, as foreign_program = \"refuse\" says";
                run.expect_code(1)?.expect_stderr(&["of its own", why])?;
                host.expect_answers("127.0.0.1:8080".parse()?, 20, "gen1")?;
            } else {
                run.expect_success()?;
                host.ok(&["stop", "--service", "web", name])?;
            }
        }
    }
    Ok(())
}

/// In its network, and until it is configured otherwise.
#[test]
fn reserved_ports_are_the_services_alone() -> Result<()> {
    let mut host = host("reserve = true")?;
    let tries = |netns: &Netns| {
        netns.run(|| {
            let tcp = |address: &str| TcpListener::bind(address).map(drop);
            let udp = |address: &str| UdpSocket::bind(address).map(drop);
            [
                tcp("127.0.0.1:8080"),
                tcp("[::1]:8080"),
                udp("127.0.0.1:8080"),
                tcp("127.0.0.1:9999"),
            ]
            .map(|bound| bound.map_err(|error| error.kind()))
        })
    };
    let is_refused = |host: &Host| {
        let [narrower, ..] = tries(host.netns())?;
        anyhow::Ok(narrower == Err(ErrorKind::PermissionDenied))
    };
    let [narrower, v6, datagrams, other] = tries(host.netns())?;
    for refused in [narrower, v6, datagrams] {
        ensure!(refused == Err(ErrorKind::PermissionDenied), "{refused:?}");
    }
    ensure!(other.is_ok(), "{other:?}");
    let elsewhere = host.netns().sibling()?;
    ensure!(
        tries(&elsewhere)?.iter().all(Result::is_ok),
        "another network"
    );
    wait::until_true("it is in the log", LIMIT, || {
        host.agent_log().contains("as reserve = true says")
    })?;
    // Its own go on, also those that another agent starts.
    let plain = |name: &str| Plain::new(name).listen("0.0.0.0:8080").command();
    host.upgrade_of("web", "gen2", &plain("gen2")?)?;
    host.kill_agent()?;
    ensure!(is_refused(&host)?, "without an agent");
    host.start_agent()?;
    host.upgrade_of("web", "gen3", &plain("gen3")?)?;
    host.expect_answers("127.0.0.1:8080".parse()?, 20, "gen3")?;
    host.hotlb(&[
        "adopt",
        "--service",
        "web",
        "--generation",
        "gen4",
        "--pid",
        "1",
    ])?
    .expect_code(6)?
    .expect_stderr(&["reserve = true"])?;
    let config = std::fs::read_to_string(host.config())?;
    host.write_config(&config.replace("reserve = true", ""))?;
    host.ok(&["agent", "upgrade"])?;
    ensure!(!is_refused(&host)?, "it is reserved no longer");
    Ok(())
}

/// Where they are on the machine; not every user has the path to it.
fn installed(name: &str) -> Option<String> {
    let places = ["/usr/sbin", "/usr/bin"].map(|place| format!("{place}/{name}"));
    places.into_iter().find(|path| Path::new(path).exists())
}

/// Two resolvers that look at interfaces, on all addresses of one, UDP and TCP. What they do with devices is not at the
/// service's ports, or they do it before they bind there.
#[test]
fn resolvers_on_interfaces_are_upgraded() -> Result<()> {
    let addresses = ["127.0.0.1:5353", "[::1]:5353"];
    for name in ["dnsmasq", "unbound"] {
        let Some(program) = installed(name) else {
            report::skip("strays", &format!("{name} is not installed"))?;
            continue;
        };
        let listen = addresses.map(|address| format!("\"{address}\", \"udp://{address}\""));
        let host = Host::with_service(&format!("listen = [{}]\n", listen.join(", ")))?;
        for answer in ["192.0.2.1", "192.0.2.2"] {
            let command = match name {
                "dnsmasq" => dnsmasq(&program, answer),
                _ => unbound(&host, &program, answer)?,
            };
            let generation = format!("gen{}", &answer[8..]);
            host.upgrade(&generation, &command)?;
            for address in addresses {
                let found = host.netns().run(|| ask(address.parse()?))??;
                ensure!(found == answer, "{name} says {found} at {address}");
            }
        }
        let web = host.web()?;
        ensure!(web.warnings.is_empty(), "{name}: {:#?}", web.warnings);
    }
    Ok(())
}

fn dnsmasq(program: &str, answer: &str) -> CommandLine {
    let address = format!("--address=/x.test/{answer}");
    let words = [
        program,
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--port=5353",
        "--interface=lo",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--log-facility=-",
        &address,
    ];
    words.map(str::to_owned).to_vec()
}

fn unbound(host: &Host, program: &str, answer: &str) -> Result<CommandLine> {
    let config = host.directory().join(format!("unbound-{answer}.conf"));
    std::fs::write(
        &config,
        format!(
            "server:\n  interface: lo\n  port: 5353\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  \
             pidfile: \"\"\n  use-syslog: no\n  access-control: 127.0.0.0/8 allow\n  access-control: ::1 allow\n  \
             local-zone: \"test.\" static\n  local-data: \"x.test. A {answer}\"\n"
        ),
    )?;
    let config = config.display().to_string();
    Ok([program, "-d", "-c", &config].map(str::to_owned).to_vec())
}

/// The address of `x.test`, by UDP.
fn ask(server: SocketAddr) -> Result<String> {
    let any = if server.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01x\x04test\0\0\x01\0\x01";
    socket.send_to(question, server)?;
    let mut answer = [0; 512];
    let (length, _) = socket.recv_from(&mut answer)?;
    let address = answer.get(..length).and_then(<[u8]>::last_chunk);
    let address: [u8; 4] = *address.context("too short")?;
    Ok(Ipv4Addr::from(address).to_string())
}
