//! The head of an HTTP/1.1 response, read byte by byte.
//!
//! Strict on purpose: whatever is not plainly a head by RFC 9112 (a bare LF, a folded line, a
//! space before a colon, two lengths) is refused, and a refused head is left as it is. Runs in
//! `polite`, where the verifier sees one step; tested here on the host.

/// How many bytes of a message may be a head; a longer one is left alone.
pub const HEAD_LIMIT: u32 = 8192;

/// The value that is replaced.
pub const KEEP_ALIVE: &[u8; 10] = b"keep-alive";
/// What replaces [`KEEP_ALIVE`], byte for byte.
pub const CLOSE: &[u8; 10] = b"close     ";
/// What is put behind the status line of a head without a `Connection` header.
pub const CLOSE_LINE: &[u8; 19] = b"Connection: close\r\n";

/// Where the reader stands.
mod place {
    pub(super) const STATUS_LINE: u32 = 0;
    pub(super) const NAME: u32 = 1;
    pub(super) const VALUE: u32 = 2;
    pub(super) const LINE_FEED: u32 = 3;
    pub(super) const LAST_LINE_FEED: u32 = 4;
    pub(super) const WHOLE: u32 = 5;
    pub(super) const REFUSED: u32 = 6;
}

/// The headers that matter.
mod header {
    pub(super) const OTHER: u32 = 0;
    pub(super) const CONNECTION: u32 = 1;
    pub(super) const LENGTH: u32 = 2;
    pub(super) const ENCODING: u32 = 3;
}

/// What `Connection` says.
mod connection {
    pub(super) const ABSENT: u32 = 0;
    pub(super) const KEEP_ALIVE: u32 = 1;
    pub(super) const CLOSE: u32 = 2;
    pub(super) const OTHER: u32 = 3;
}

const HAS_LENGTH: u32 = 1;
const HAS_ENCODING: u32 = 2;

/// How an answer begins.
const PROTOCOL: u64 = u64::from_be_bytes(*b"HTTP/1.1");
/// Where the three digits of the status stand in it.
const STATUS_AT: u32 = 9;
const STATUS_END: u32 = 12;

/// A reader of one head. Plain integers, for it lives on the stack of a kernel program.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct HeadReader {
    /// The last 24 bytes of the name or value, in lower case.
    recent: [u64; 3],
    content_length: u64,
    /// Bytes read.
    read: u32,
    place: u32,
    /// Bytes of the name or value so far.
    length: u32,
    /// Spaces that belong to the value only if more of it follows.
    spaces: u32,
    header: u32,
    value_at: u32,
    status: u32,
    headers_at: u32,
    connection: u32,
    connection_at: u32,
    framing: u32,
    _padding: u32,
}

/// What is to be done with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// [`CLOSE`] goes over the ten bytes at this offset.
    Rewrite(u32),
    /// [`CLOSE_LINE`] goes in at this offset.
    Insert(u32),
    /// It says `close` already.
    Closing,
    /// It says something else about the connection, or changes the protocol (101).
    Upgrade,
    /// 1xx: the final response is still to come.
    Interim,
    /// It does not begin like an HTTP/1.1 response.
    Foreign,
    /// It is not whole, too long, or not plain enough to be sure.
    Unclear,
}

/// How long the body behind a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes; zero by its status or its length. (The answer to a HEAD request says a
    /// length, too, and has no body.)
    Bytes(u64),
    /// Chunked, or as long as the connection.
    Unknown,
}

impl HeadReader {
    /// Reads the next byte; false when no more are wanted.
    #[inline(always)]
    pub fn read(&mut self, byte: u8) -> bool {
        match self.place {
            place::STATUS_LINE => self.status_line(byte),
            place::NAME => self.name(byte),
            place::VALUE => self.value(byte),
            place::LINE_FEED => self.line_feed(byte),
            place::LAST_LINE_FEED => {
                self.place = if byte == b'\n' {
                    place::WHOLE
                } else {
                    place::REFUSED
                };
            }
            _ => {}
        }
        self.read += 1;
        self.place < place::WHOLE
    }

    /// What is to be done.
    #[inline(always)]
    pub fn advice(&self) -> Advice {
        if self.place != place::WHOLE {
            return if self.place == place::REFUSED && self.read <= STATUS_END + 1 {
                Advice::Foreign
            } else {
                Advice::Unclear
            };
        }
        if self.status == 101 {
            return Advice::Upgrade;
        }
        if self.status < 200 {
            return Advice::Interim;
        }
        match self.connection {
            connection::ABSENT => Advice::Insert(self.headers_at),
            connection::KEEP_ALIVE => Advice::Rewrite(self.connection_at),
            connection::CLOSE => Advice::Closing,
            _ => Advice::Upgrade,
        }
    }

    /// How many bytes the head has.
    #[inline(always)]
    pub const fn size(&self) -> u32 {
        self.read
    }

    /// The body behind it.
    #[inline(always)]
    pub fn body(&self) -> Body {
        if self.status == 204 || self.status == 304 {
            Body::Bytes(0)
        } else if self.framing == HAS_LENGTH {
            Body::Bytes(self.content_length)
        } else {
            Body::Unknown
        }
    }

    #[inline(always)]
    fn status_line(&mut self, byte: u8) {
        if self.read < 8 {
            self.require(byte == (PROTOCOL >> (56 - 8 * self.read)) as u8);
        } else if self.read == 8 {
            self.require(byte == b' ');
        } else if self.read < STATUS_END {
            self.require(byte.is_ascii_digit() && !(self.read == STATUS_AT && byte == b'0'));
            self.status = self.status * 10 + u32::from(byte & 0xf);
        } else if byte == b'\r' {
            self.place = place::LINE_FEED;
        } else {
            self.require(self.read > STATUS_END || byte == b' ');
            self.require(is_text(byte));
        }
    }

    #[inline(always)]
    fn name(&mut self, byte: u8) {
        if byte == b':' {
            self.header = self.which();
            self.require(self.length > 0);
            self.begin(place::VALUE);
        } else if byte == b'\r' && self.length == 0 {
            self.place = place::LAST_LINE_FEED;
        } else {
            // Spaces too: a folded line, or one before the colon.
            self.require(byte > b' ' && byte < 0x7f);
            self.remember(byte.to_ascii_lowercase());
        }
    }

    #[inline(always)]
    fn value(&mut self, byte: u8) {
        if byte == b'\r' {
            self.conclude();
            self.place = self.place.max(place::LINE_FEED);
        } else if byte == b' ' || byte == b'\t' {
            self.spaces += 1;
        } else {
            self.require(is_text(byte));
            if self.length == 0 {
                self.value_at = self.read;
            } else if self.spaces > 0 {
                self.remember(b' ');
            }
            self.spaces = 0;
            self.remember(byte.to_ascii_lowercase());
            if self.header == header::LENGTH {
                // Nineteen digits are below 2^64.
                self.require(byte.is_ascii_digit() && self.length < 20);
                self.content_length = self.content_length * 10 + u64::from(byte & 0xf);
            }
        }
    }

    /// The value is whole.
    #[inline(always)]
    fn conclude(&mut self) {
        match self.header {
            header::CONNECTION => {
                self.connection = if self.connection != connection::ABSENT {
                    connection::OTHER
                } else if self.is(KEEP_ALIVE) {
                    self.connection_at = self.value_at;
                    connection::KEEP_ALIVE
                } else if self.is(b"close") {
                    connection::CLOSE
                } else {
                    connection::OTHER
                };
            }
            header::LENGTH => {
                self.require(self.length > 0 && self.framing & HAS_LENGTH == 0);
                self.framing |= HAS_LENGTH;
            }
            header::ENCODING => self.framing |= HAS_ENCODING,
            _ => {}
        }
    }

    #[inline(always)]
    fn line_feed(&mut self, byte: u8) {
        self.require(byte == b'\n');
        if self.headers_at == 0 {
            self.headers_at = self.read + 1;
        }
        self.begin(place::NAME);
    }

    #[inline(always)]
    fn which(&self) -> u32 {
        if self.is(b"connection") {
            header::CONNECTION
        } else if self.is(b"content-length") {
            header::LENGTH
        } else if self.is(b"transfer-encoding") {
            header::ENCODING
        } else {
            header::OTHER
        }
    }

    /// Whether the name or value read is this one, of at most 24 bytes.
    #[inline(always)]
    fn is<const N: usize>(&self, text: &[u8; N]) -> bool {
        self.length == N as u32 && self.recent == packed(text)
    }

    /// Begins a name or value, unless the head was refused.
    #[inline(always)]
    fn begin(&mut self, place: u32) {
        if self.place != place::REFUSED {
            self.place = place;
        }
        self.recent = [0; 3];
        self.length = 0;
        self.spaces = 0;
    }

    #[inline(always)]
    fn remember(&mut self, byte: u8) {
        let [a, b, c] = self.recent;
        self.recent = [a << 8 | u64::from(byte), b << 8 | a >> 56, c << 8 | b >> 56];
        self.length += 1;
    }

    #[inline(always)]
    fn require(&mut self, condition: bool) {
        if !condition {
            self.place = place::REFUSED;
        }
    }
}

/// Printable, or beyond ASCII.
#[inline(always)]
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

/// A text as [`HeadReader`] remembers it.
#[inline(always)]
const fn packed<const N: usize>(text: &[u8; N]) -> [u64; 3] {
    let mut words = [0_u64; 3];
    let mut rest = text.as_slice();
    while let [byte, behind @ ..] = rest {
        let [a, b, c] = words;
        words = [a << 8 | *byte as u64, b << 8 | a >> 56, c << 8 | b >> 56];
        rest = behind;
    }
    words
}

#[cfg(test)]
mod tests {
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
}
