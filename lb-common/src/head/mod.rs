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

    /// Whether something follows the response in the `size` bytes that begin with it.
    #[inline(always)]
    pub fn is_followed(&self, size: u32) -> bool {
        match self.body() {
            Body::Bytes(length) => u64::from(size - self.size()) > length,
            Body::Unknown => false,
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
                // Nineteen digits are below 2^64; the one that is refused may be too much.
                self.require(byte.is_ascii_digit() && self.length < 20);
                let before = self.content_length.wrapping_mul(10);
                self.content_length = before.wrapping_add(u64::from(byte & 0xf));
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
mod tests;
