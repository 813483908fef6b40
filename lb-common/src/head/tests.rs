extern crate std;
use std::{format, string::String, vec::Vec};

use super::*;

fn read(head: &[u8]) -> HeadReader {
    let mut reader = HeadReader::default();
    for &byte in head {
        if !reader.read(byte) {
            break;
        }
    }
    reader
}

fn advice(head: &str) -> Advice {
    read(head.as_bytes()).advice()
}

fn with(headers: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nServer: x\r\n{headers}\r\n")
}

#[test]
fn keep_alive_is_found_wherever_it_stands() {
    for line in [
        "Connection: keep-alive",
        "connection:Keep-Alive",
        "CONNECTION: \t KEEP-ALIVE \t ",
    ] {
        for headers in [
            format!("{line}\r\n"),
            format!("{line}\r\nX-Connection: close\r\n"),
            format!("X-Connection: close\r\nConnectio: close\r\nConnectionx: a\r\n{line}\r\n"),
        ] {
            let head = with(&headers);
            let Advice::Rewrite(at) = advice(&head) else {
                panic!("{head:?}: {:?}", advice(&head));
            };
            let at = at as usize;
            let found = &head[at..at + KEEP_ALIVE.len()];
            assert!(
                found.eq_ignore_ascii_case("keep-alive"),
                "{head:?}: {found}"
            );
        }
    }
}

#[test]
fn what_it_does_not_rewrite() {
    let cases = [
        ("Connection: close\r\n", Advice::Closing),
        ("Connection: Close \r\n", Advice::Closing),
        ("Connection: keep-alive, Upgrade\r\n", Advice::Upgrade),
        ("Connection: keep-alive close\r\n", Advice::Upgrade),
        ("Connection: Upgrade\r\n", Advice::Upgrade),
        ("Connection:\r\n", Advice::Upgrade),
        (
            "Connection: keep-alive\r\nConnection: Upgrade\r\n",
            Advice::Upgrade,
        ),
        (
            "Connection: keep-alive\r\nConnection: keep-alive\r\n",
            Advice::Upgrade,
        ),
        ("Connection: keep-alive\n\r\n", Advice::Unclear),
        ("Connection : keep-alive\r\n", Advice::Unclear),
        ("Connection: keep-alive\r\n folded\r\n", Advice::Unclear),
        (
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            Advice::Unclear,
        ),
        ("Content-Length: 1x\r\n", Advice::Unclear),
        ("Content-Length: -1\r\n", Advice::Unclear),
        ("Content-Length:\r\n", Advice::Unclear),
        ("Content-Length: 12345678901234567890\r\n", Advice::Unclear),
        (": x\r\n", Advice::Unclear),
        ("X: a\0b\r\n", Advice::Unclear),
        ("X: a\rb\r\n", Advice::Unclear),
    ];
    for (headers, expected) in cases {
        assert_eq!(advice(&with(headers)), expected, "{headers:?}");
    }
}

#[test]
fn status_lines() {
    let keep = "Connection: keep-alive\r\n\r\n";
    let cases = [
        ("HTTP/1.1 100 Continue\r\n", Advice::Interim),
        ("HTTP/1.1 103 Early Hints\r\n", Advice::Interim),
        ("HTTP/1.1 101 Switching Protocols\r\n", Advice::Upgrade),
        ("HTTP/1.0 200 OK\r\n", Advice::Foreign),
        ("HTTP/1.10 200 OK\r\n", Advice::Foreign),
        ("HTTP/2 200\r\n", Advice::Foreign),
        ("http/1.1 200 OK\r\n", Advice::Foreign),
        (" HTTP/1.1 200 OK\r\n", Advice::Foreign),
        ("HTTP/1.1 20 OK\r\n", Advice::Foreign),
        ("HTTP/1.1 2000 OK\r\n", Advice::Foreign),
        ("HTTP/1.1 099 OK\r\n", Advice::Foreign),
        ("+OK\r\n", Advice::Foreign),
        ("\u{16}\u{3}\u{3}", Advice::Foreign),
        ("HTTP/1.1 200 O\0K\r\n", Advice::Unclear),
    ];
    for (line, expected) in cases {
        assert_eq!(advice(&format!("{line}{keep}")), expected, "{line:?}");
    }
    for line in [
        "HTTP/1.1 200\r\n",
        "HTTP/1.1 404 \r\n",
        "HTTP/1.1 503 So So\r\n",
    ] {
        let found = advice(&format!("{line}{keep}"));
        assert!(matches!(found, Advice::Rewrite(_)), "{line:?}: {found:?}");
    }
}

#[test]
fn a_missing_header_goes_behind_the_status_line() {
    let head = "HTTP/1.1 200 OK\r\nDate: x\r\n\r\n";
    assert_eq!(advice(head), Advice::Insert(17));
    assert_eq!(advice("HTTP/1.1 200 OK\r\n\r\n"), Advice::Insert(17));
}

#[test]
#[cfg_attr(miri, ignore = "more than an interpreter gets through")]
fn no_part_of_a_head_is_a_head() {
    let head = with("Connection: keep-alive\r\nContent-Length: 5\r\n");
    for end in 0..head.len() {
        assert_eq!(advice(&head[..end]), Advice::Unclear, "{end}");
    }
    let reader = read(format!("{head}HTTP/1.1 100 Continue\r\n").as_bytes());
    assert_eq!(reader.size() as usize, head.len());
    assert_eq!(reader.body(), Body::Bytes(5));
}

#[test]
fn bodies() {
    let body = |status: &str, headers: &str| {
        read(format!("HTTP/1.1 {status}\r\n{headers}\r\n").as_bytes()).body()
    };
    assert_eq!(body("200 OK", "Content-Length: 0\r\n"), Body::Bytes(0));
    assert_eq!(
        body("200 OK", "content-length:  9999999999999999999 \r\n"),
        Body::Bytes(9_999_999_999_999_999_999)
    );
    assert_eq!(body("200 OK", ""), Body::Unknown);
    assert_eq!(
        body("304 Not Modified", "Content-Length: 9\r\n"),
        Body::Bytes(0)
    );
    assert_eq!(body("204 No Content", ""), Body::Bytes(0));
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 9\r\n";
    assert_eq!(body("200 OK", both), Body::Unknown);
}

/// A head with one byte changed, anywhere, to anything: what is rewritten is still exactly
/// the value of the one header.
#[test]
#[cfg_attr(miri, ignore = "more than an interpreter gets through")]
fn one_wrong_byte_never_moves_the_place() {
    let head = with("Connection: keep-alive\r\nContent-Length: 5\r\n").into_bytes();
    let Advice::Rewrite(place) = read(&head).advice() else {
        panic!("the head itself");
    };
    for at in 0..head.len() {
        for byte in 0..=u8::MAX {
            let mut changed: Vec<u8> = head.clone();
            changed[at] = byte;
            match read(&changed).advice() {
                Advice::Rewrite(found) => {
                    let found = found as usize;
                    let value = &changed[found..found + KEEP_ALIVE.len()];
                    assert!(value.eq_ignore_ascii_case(KEEP_ALIVE), "{at} {byte}");
                    assert!(found.abs_diff(place as usize) <= 1, "{at} {byte}");
                }
                Advice::Insert(found) => assert_eq!(found, 17, "{at} {byte}"),
                _ => {}
            }
        }
    }
}
