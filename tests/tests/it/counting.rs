//! Promise: connections are counted whatever else is attached above, and whichever address they were for; a drain waits
//! for those that are open, and for no others.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use hotlb_tests::{
    command,
    host::Host,
    load::Plan,
    netns::{Netns, ip},
    servers::{CommandLine, Plain, python},
    wait,
};

const LIMIT: Duration = Duration::from_secs(20);
const SERVICE: &str =
    "listen = [\"0.0.0.0:8080\"]\ndrain = { signal_after = \"15s\", deadline = \"20s\" }";
const CONNECTIONS: u64 = 100;

/// Attaches a program to the cgroup it is given that sets its own callback flag of sockets, and so takes away others'.
const TAKES_CALLBACKS: &str = r"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    result = libc.syscall(321, command, buffer, 128)
    if result < 0: raise OSError(ctypes.get_errno(), 'bpf')
    return result
def instruction(code, to, value): return struct.pack('<BBhi', code, to, 0, value)
# r2 = BPF_SOCK_OPS_RETRANS_CB_FLAG; bpf_sock_ops_cb_flags_set(r1, r2); return 1
code = instruction(0xb7, 2, 2) + instruction(0x85, 0, 59) + instruction(0xb7, 0, 1) + instruction(0x95, 0, 0)
code = ctypes.create_string_buffer(code, len(code)); licence = ctypes.create_string_buffer(b'GPL')
SOCK_OPS, LOAD, ATTACH, CGROUP_SOCK_OPS, MULTI = 13, 5, 8, 3, 2
program = bpf(LOAD, struct.pack('<IIQQ', SOCK_OPS, len(code) // 8, ctypes.addressof(code), ctypes.addressof(licence)))
cgroup = os.open(sys.argv[1], os.O_RDONLY)
bpf(ATTACH, struct.pack('<IIII', cgroup, program, CGROUP_SOCK_OPS, MULTI))
";

/// Takes connections for any address, and answers after two seconds.
const TRANSPARENT: &str = r"
import socket, sys, threading, time
listener = socket.socket(); listener.setsockopt(1, 2, 1); listener.setsockopt(0, 19, 1)
listener.bind(('0.0.0.0', 8080)); listener.listen(64)
def serve(client):
    with client:
        if not client.recv(4096): return
        time.sleep(2)
        client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n' + b'ok')
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
";

fn script(host: &Host, name: &str, text: &str) -> Result<CommandLine> {
    let python = python::binary().context("python3 is not installed")?;
    let path = host.directory().join(name);
    fs::write(&path, text)?;
    Ok(vec![
        python.display().to_string(),
        path.display().to_string(),
    ])
}

#[test]
fn ends_are_counted_although_a_program_above_takes_the_callbacks() -> Result<()> {
    let host = Host::with_service(SERVICE)?;
    let mut words = script(&host, "above.py", TAKES_CALLBACKS)?;
    words.push(host.cgroup()?.display().to_string());
    let (program, arguments) = words.split_first().context("no words")?;
    let mut attaching = std::process::Command::new(program);
    command::run(attaching.args(arguments), LIMIT)?.expect_success()?;
    let server = |name: &str| Plain::new(name).listen("0.0.0.0:8080").command();
    host.upgrade("gen1", &server("gen1")?)?;
    let target = "127.0.0.1:8080".parse()?;
    let plan = Plan::new(target).workers(4).max_requests(CONNECTIONS);
    let load = host.load(plan)?;
    load.wait_for("all answers", LIMIT, |outcome| outcome.ok >= CONNECTIONS)?;
    load.stop()?.expect_none_lost()?;
    // A drain compares its counts with the kernel's list, and waits for nobody here.
    host.upgrade("gen2", &server("gen2")?)?;
    let web = host.web()?;
    let gen1 = web.generation("gen1")?;
    ensure!(gen1.state == "standby", "{gen1:#?}");
    let counted = &gen1.connections;
    ensure!(
        counted.live == 0 && counted.closed == counted.opened && counted.opened >= CONNECTIONS,
        "{gen1:#?}"
    );
    ensure!(
        web.warnings
            .iter()
            .any(|said| said.contains("takes the callback away")),
        "{:?}",
        web.warnings
    );
    Ok(())
}

#[test]
fn a_connection_for_another_address_is_counted() -> Result<()> {
    let host = Host::with_service(SERVICE)?;
    let client = host.netns().sibling()?;
    redirected(host.netns(), &client)?;
    let server = script(&host, "transparent.py", TRANSPARENT)?;
    host.upgrade("gen1", &server)?;
    let asking = client.spawn("client", ask)?;
    wait::until_true("its connection counts as open", LIMIT, || {
        host.generation("gen1")
            .is_ok_and(|gen1| gen1.connections.live == 1)
    })?;
    host.upgrade("gen2", &server)?;
    let answer = asking.join().map_err(|_panic| anyhow!("panicked"))??;
    ensure!(answer.ends_with("ok"), "{answer}");
    let gen1 = host.generation("gen1")?;
    ensure!(
        gen1.state == "standby" && gen1.connections.live == 0,
        "{gen1:#?}"
    );
    Ok(())
}

/// Asks where nobody listens but by redirection; the whole answer.
fn ask() -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&"10.8.0.7:80".parse()?, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Has what `client` sends to 10.8.0.0/24, port 80, arrive at port 8080 of `host`.
fn redirected(host: &Netns, client: &Netns) -> Result<()> {
    let (a, b) = (host.name(), client.name());
    ip(&[
        "link", "add", "v1", "netns", a, "type", "veth", "peer", "name", "v2", "netns", b,
    ])?;
    for arguments in [
        &["-n", a, "addr", "add", "10.9.0.1/24", "dev", "v1"][..],
        &["-n", a, "link", "set", "v1", "up"],
        &["-n", b, "addr", "add", "10.9.0.2/24", "dev", "v2"],
        &["-n", b, "link", "set", "v2", "up"],
        &["-n", b, "route", "add", "10.8.0.0/24", "via", "10.9.0.1"],
        &["-n", a, "rule", "add", "fwmark", "1", "lookup", "100"],
        &[
            "-n",
            a,
            "route",
            "add",
            "local",
            "0.0.0.0/0",
            "dev",
            "lo",
            "table",
            "100",
        ],
    ] {
        ip(arguments)?;
    }
    host.sysctl("net/ipv4/ip_forward", "1")?;
    for rule in [
        "add table ip t",
        "add chain ip t p { type filter hook prerouting priority mangle; }",
        "add rule ip t p iifname v1 tcp dport 80 tproxy to :8080 meta mark set 1 accept",
    ] {
        command::run(host.command("nft").arg(rule), LIMIT)?.expect_success()?;
    }
    Ok(())
}
