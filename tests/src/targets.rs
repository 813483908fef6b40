//! Everything of hotlb that reads what others wrote, as functions of any bytes: none may panic, hang, or read what is
//! not there.
//!
//! `cargo test` gives each of them random bytes and damaged seeds; `cargo xtask fuzz` has libFuzzer look for more.

use std::path::Path;

use hotlb::{
    api::wire,
    config::{Config, Hook},
    generation::notify,
    lineage::TraceParent,
    sys::{
        perf::{Event, Record, read_record},
        sock_diag::{self, Protocol},
    },
};
use lb_common::head::{Advice, CLOSE, CLOSE_LINE, HEAD_LIMIT, HeadReader};

/// One reader of others' bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Reads any bytes; panics where a promise is broken.
    pub read: fn(&[u8]),
    /// Bytes it understands.
    pub seeds: &'static [&'static [u8]],
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "config",
        read: config,
        seeds: &[
            b"[agent]\nmetrics = \"off\"\nhistory = { rollouts = 5, for = \"1d\" }\n[service.web]\nlisten = [\"0.0.0.0:80\"]\n",
            b"[service.a]\nlisten = [\"[::]:1\"]\nhealth = { http = \"/h\" }\ndrain = { signal = \"quit\", deadline = \"1m 30s\" }\nhooks.swap = { command = \"a\", deadline = \"1s\" }\n",
        ],
    },
    Target {
        name: "request",
        read: request,
        seeds: &[
            br#"{"generation":"g1","command":["/bin/a","-b"],"cwd":"/","env":{"A":"b"},"timeout_ms":5}"#,
            br#"{"generation":"g1","bake_ms":1,"keep_ms":2,"hooks":[],"no_wait":true}"#,
            br#"{"generation":"g1","park":true}"#,
        ],
    },
    Target {
        name: "hook",
        read: hook,
        seeds: &[b"swap=exit 3", b"validate=/bin/check it"],
    },
    Target {
        name: "sock-diag",
        read: sock_diag,
        seeds: &[
            // A listener on 127.0.0.1:8080, as the kernel describes it; then the end.
            b"\x58\0\0\0\x14\0\x02\0\x01\0\0\0\x01\0\0\0\x02\x0a\0\0\x1f\x90\0\0\x7f\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\0\x09\x09\0\0\x14\0\0\0\x03\0\x02\0\x01\0\0\0\x01\0\0\0\0\0\0\0",
            // A refusal with the least code there is, which has no absolute value.
            b"\x14\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\x80",
        ],
    },
    Target {
        name: "perf",
        read: perf,
        seeds: &[
            // A thread's new name (PERF_RECORD_COMM, by exec), with its pid and tid.
            b"\x03\0\0\0\0\x20\x18\0\x07\0\0\0\x07\0\0\0nginx\0\0\0",
            // A sample (PERF_RECORD_SAMPLE): pid, tid, time, and a chain of one address in the kernel.
            b"\x09\0\0\0\x01\0\x30\0\x07\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x80\xff\xff\xff\xff\xff\xff\xff\x10\x20\x30\x81\xff\xff\xff\xff",
        ],
    },
    Target {
        name: "head",
        read: head,
        seeds: &[
            b"HTTP/1.1 200 OK\r\nServer: x\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 204 No Content\r\nX-Y: z\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200\r\nContent-Length: 88888888888888888888\r\n\r\n",
        ],
    },
    Target {
        name: "traceparent",
        read: traceparent,
        seeds: &[b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
    },
    Target {
        name: "notify",
        read: notify,
        seeds: &[b"STATUS=up\nREADY=1\n", b"READY=1"],
    },
];

fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = Config::parse(&text, Path::new("hotlb.toml")) {
        one_line(&error.to_string());
    }
}

fn request(bytes: &[u8]) {
    drop(serde_json::from_slice::<wire::DeployRequest>(bytes));
    drop(serde_json::from_slice::<wire::StopRequest>(bytes));
    drop(serde_json::from_slice::<wire::PromoteRequest>(bytes));
    drop(serde_json::from_slice::<wire::RolloutOptions>(bytes));
}

fn hook(bytes: &[u8]) {
    if let Err(error) = String::from_utf8_lossy(bytes).parse::<Hook>() {
        one_line(&error.to_string());
    }
}

fn sock_diag(bytes: &[u8]) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        drop(sock_diag::waiting_in(protocol, bytes));
    }
}

/// A sample names bytes of the record and none behind it.
fn perf(bytes: &[u8]) {
    for asked in [Record::Nothing, Record::Chain, Record::Stack(64)] {
        read_record(bytes, asked, &mut |event| {
            if let Event::Sample { chain, user, .. } = event {
                let stack = user.map_or(0, |user| user.bytes.len());
                assert!(size_of_val(chain) + stack <= bytes.len(), "{chain:?}");
            }
        });
    }
}

/// Whatever is advised can be done within the head, and leaves a head that says `close`.
fn head(bytes: &[u8]) {
    let advice = advice(bytes);
    let mut changed = bytes.to_vec();
    match advice {
        Advice::Rewrite(at) => {
            let at = at as usize;
            changed.splice(at..at + CLOSE.len(), *CLOSE);
        }
        Advice::Insert(at) => {
            let at = at as usize;
            changed.splice(at..at, *CLOSE_LINE);
        }
        _ => return,
    }
    let after = self::advice(&changed);
    let too_long = changed.len() > HEAD_LIMIT as usize;
    assert!(
        after == Advice::Closing || too_long && after == Advice::Unclear,
        "{advice:?} leaves {after:?} in {:?}",
        String::from_utf8_lossy(&changed)
    );
}

fn advice(bytes: &[u8]) -> Advice {
    let mut reader = HeadReader::default();
    for &byte in bytes.iter().take(HEAD_LIMIT as usize) {
        if !reader.read(byte) {
            break;
        }
    }
    reader.advice()
}

fn traceparent(bytes: &[u8]) {
    match String::from_utf8_lossy(bytes).parse::<TraceParent>() {
        Ok(parent) => {
            let written = parent.to_string();
            let again = written
                .parse::<TraceParent>()
                .map(|parent| parent.to_string());
            assert_eq!(again.ok(), Some(written));
        }
        Err(error) => one_line(&error.to_string()),
    }
}

fn notify(bytes: &[u8]) {
    let ready = notify::says_ready(bytes);
    let holds = bytes.windows(7).any(|window| window == b"READY=1");
    assert!(holds || !ready);
}

/// An error is one line that a terminal shows as it is.
fn one_line(error: &str) {
    let bad = error.chars().find(|c| c.is_control());
    assert_eq!(bad, None, "{error:?}");
}

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::*,
        test_runner::{Config as Setting, TestRunner},
    };

    use super::*;

    const CASES: u32 = 10_000;

    /// Any bytes, or a seed with a few of its bytes changed, put in or taken out.
    fn bytes(seeds: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
        let damage = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
        let damaged = (
            prop::sample::select(seeds),
            prop::collection::vec(damage, 0..6),
        );
        let damaged = damaged.prop_map(|(seed, damages)| {
            let mut bytes = seed.to_vec();
            for (index, byte, kind) in damages {
                let at = index.index(bytes.len() + 1);
                match (kind, bytes.get_mut(at)) {
                    (0, Some(there)) => *there = byte,
                    (1, Some(_)) => drop(bytes.remove(at)),
                    (2, _) => bytes.truncate(at),
                    _ => bytes.insert(at, byte),
                }
            }
            bytes
        });
        prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..300), 3 => damaged]
    }

    fn runs(target: Target) {
        let setting = Setting {
            cases: CASES,
            failure_persistence: None,
            ..Setting::default()
        };
        let run = TestRunner::new(setting).run(&bytes(target.seeds), |bytes| {
            (target.read)(&bytes);
            Ok(())
        });
        if let Err(error) = run {
            panic!("{}: {error}", target.name);
        }
    }

    #[test]
    fn no_bytes_break_a_reader() {
        TARGETS.into_iter().for_each(runs);
    }

    fn seeds(name: &str) -> &'static [&'static [u8]] {
        let target = TARGETS.iter().find(|target| target.name == name);
        target.unwrap().seeds
    }

    #[test]
    fn seeds_are_understood() {
        let found = sock_diag::waiting_in(Protocol::Tcp, seeds("sock-diag")[0]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address, "127.0.0.1:8080".parse().unwrap());
        assert!(matches!(advice(seeds("head")[0]), Advice::Rewrite(_)));
        let mut found = Vec::new();
        for seed in seeds("perf") {
            read_record(seed, Record::Chain, &mut |event| {
                found.push(format!("{event:x?}"));
            });
        }
        assert_eq!(
            found,
            [
                "Executed { pid: 7 }",
                "Named { pid: 7, tid: 7, name: \"nginx\" }",
                "Sample { pid: 7, tid: 7, chain: [ffffffffffffff80, ffffffff81302010], user: None }",
            ]
        );
    }
}
