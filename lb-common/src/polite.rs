//! What `polite` knows of a connection, and what it counts.
//!
//! The one thing it must never do is take part of a body for a head. What proves that a message
//! begins a response is that the client has sent something since the server's last message: a
//! client that does not pipeline speaks again only when it has the whole response before. Where
//! the length of a body is known, its bytes are counted on top.

use crate::head::{Advice, Body, HeadReader};

/// Fewer new bytes from the client are no request: the shortest has a request line and `Host`.
/// (A FIN counts as one.)
pub const LEAST_REQUEST: u64 = 16;

/// One connection: three words of its socket's storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// Bytes the client had sent at the server's last message.
    received: u64,
    /// Bytes of the body that are still to come.
    rest: u64,
    flags: u64,
}

/// `received` is known.
const KNOWN: u64 = 1;
/// Whatever comes next is the beginning of a response.
const HEAD_NEXT: u64 = 2;
/// Nothing more is to be done, or this is not HTTP/1.1.
const OVER: u64 = 4;

impl Conversation {
    /// Length in words.
    pub const WORDS: usize = 3;

    /// Length of the socket's storage in words: this, and room for a [`HeadReader`]. It is the
    /// socket's own because a program can be preempted, and a row of its CPU would be shared then.
    pub const STORAGE: usize = Self::WORDS + size_of::<HeadReader>() / size_of::<u64>();

    /// A connection whose client has sent `received` bytes so far. `request_waits`: the last of
    /// them came after all that the server has sent, which has arrived as well.
    pub const fn new(received: u64, request_waits: bool) -> Self {
        Self {
            received,
            rest: 0,
            flags: KNOWN | if request_waits { HEAD_NEXT } else { 0 },
        }
    }

    /// The storage of a socket nothing was sent on yet.
    pub const fn to_storage(self) -> [u64; Self::STORAGE] {
        let mut storage = [0; Self::STORAGE];
        [storage[0], storage[1], storage[2]] = self.to_words();
        storage
    }

    /// The conversation as the map holds it.
    #[inline(always)]
    pub const fn to_words(self) -> [u64; Self::WORDS] {
        [self.received, self.rest, self.flags]
    }

    /// The conversation these words say.
    #[inline(always)]
    pub const fn from_words(words: [u64; Self::WORDS]) -> Self {
        let [received, rest, flags] = words;
        Self {
            received,
            rest,
            flags,
        }
    }

    /// Takes note of a message of `size` bytes, when the client has sent `received` in all. Says
    /// whether the message is proven to begin a response.
    #[inline(always)]
    pub const fn begins(&mut self, received: u64, size: u64) -> bool {
        let spoke = self.flags & KNOWN != 0
            && received.wrapping_sub(self.received) >= LEAST_REQUEST
            && received > self.received;
        let due = self.flags & HEAD_NEXT != 0;
        self.received = received;
        self.flags = (self.flags | KNOWN) & !HEAD_NEXT;
        if self.flags & OVER != 0 {
            return false;
        }
        if self.rest > 0 {
            self.rest = self.rest.saturating_sub(size);
            return false;
        }
        spoke || due
    }

    /// Whether whatever comes next begins a response, though the client says nothing meanwhile.
    #[inline(always)]
    pub const fn head_is_due(&self) -> bool {
        self.flags & HEAD_NEXT != 0
    }

    /// Takes note of the head that the message of `size` bytes began with.
    #[inline(always)]
    pub fn goes_on(&mut self, head: &HeadReader, size: u64) {
        let behind = size.saturating_sub(u64::from(head.size()));
        match head.advice() {
            Advice::Interim if behind == 0 => self.flags |= HEAD_NEXT,
            Advice::Interim | Advice::Unclear => {}
            Advice::Upgrade | Advice::Closing | Advice::Foreign => self.flags |= OVER,
            Advice::Rewrite(_) | Advice::Insert(_) => match head.body() {
                Body::Bytes(length) => self.rest = length.saturating_sub(behind),
                // The client has been asked, and where the body ends cannot be seen.
                Body::Unknown => self.flags |= OVER,
            },
        }
    }
}

/// One count of `polite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum PoliteCell {
    /// `keep-alive` became `close`.
    Rewritten = 0,
    /// `Connection: close` was put in.
    Inserted = 1,
    /// The head said `close` already.
    Closing = 2,
    /// The connection changes its protocol, or says something else about itself.
    Upgrade = 3,
    /// 1xx: the final response was still to come.
    Interim = 4,
    /// It is not HTTP/1.1 in plain text.
    Foreign = 5,
    /// The head was not whole in one message, too long, or not plain.
    Unclear = 6,
    /// More requests had come already: the client would lose their answers.
    Pipelined = 7,
    /// The kernel did not let the head be read or changed.
    Failed = 8,
    /// There is no such header, and nothing can be put into a packet.
    Absent = 9,
}

/// Length of the row.
pub const POLITE_CELLS: usize = 16;

impl PoliteCell {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Rewritten,
        Self::Inserted,
        Self::Closing,
        Self::Upgrade,
        Self::Interim,
        Self::Foreign,
        Self::Unclear,
        Self::Pipelined,
        Self::Failed,
        Self::Absent,
    ];

    /// What comes of a head when the advice on it is followed.
    #[inline(always)]
    pub const fn of(advice: Advice) -> Self {
        match advice {
            Advice::Rewrite(_) => Self::Rewritten,
            Advice::Insert(_) => Self::Inserted,
            Advice::Closing => Self::Closing,
            Advice::Upgrade => Self::Upgrade,
            Advice::Interim => Self::Interim,
            Advice::Foreign => Self::Foreign,
            Advice::Unclear => Self::Unclear,
        }
    }

    /// The cell's index in the row.
    #[inline(always)]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rewritten => "rewritten",
            Self::Inserted => "inserted",
            Self::Closing => "closing",
            Self::Upgrade => "upgrade",
            Self::Interim => "interim",
            Self::Foreign => "foreign",
            Self::Unclear => "unclear",
            Self::Pipelined => "pipelined",
            Self::Failed => "failed",
            Self::Absent => "absent",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &[u8]) -> HeadReader {
        let mut reader = HeadReader::default();
        for &byte in text {
            if !reader.read(byte) {
                break;
            }
        }
        reader
    }

    const KEEP: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 10\r\n\r\n";

    #[test]
    fn the_first_message_proves_nothing() {
        let mut unknown = Conversation::default();
        assert!(!unknown.begins(500, 100));
        assert!(!unknown.begins(500, 100));
        assert!(!unknown.begins(501, 100), "a FIN");
        assert!(unknown.begins(600, 100));
        assert!(!unknown.begins(600, 100));
    }

    #[test]
    fn a_waiting_request_proves_it() {
        assert!(Conversation::new(500, true).begins(500, 100));
        let mut idle = Conversation::new(500, false);
        assert!(!idle.begins(500, 100));
        let mut idle = Conversation::new(500, false);
        assert!(idle.begins(580, 100));
    }

    #[test]
    fn a_counted_body_is_no_head_whatever_comes_meanwhile() {
        let mut asked = Conversation::new(0, true);
        assert!(asked.begins(0, KEEP.len() as u64));
        asked.goes_on(&head(KEEP), KEEP.len() as u64);
        assert!(!asked.begins(1000, 4));
        assert!(!asked.begins(2000, 6));
        assert!(asked.begins(3000, 100));
    }

    #[test]
    fn the_body_in_the_same_message_is_counted() {
        let mut asked = Conversation::new(0, true);
        let size = KEEP.len() as u64 + 10;
        assert!(asked.begins(0, size));
        asked.goes_on(&head(KEEP), size);
        assert!(asked.begins(100, size));
    }

    #[test]
    fn nothing_follows_a_body_of_unknown_length_or_another_protocol() {
        let others: [&[u8]; 5] = [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\n",
            b"\x16\x03\x03\0\0",
        ];
        for other in others {
            let mut over = Conversation::new(0, true);
            assert!(over.begins(0, 1000));
            over.goes_on(&head(other), 1000);
            assert!(!over.begins(1000, 1000));
        }
    }

    #[test]
    fn the_final_response_follows_an_interim_one() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let mut next = Conversation::new(0, true);
        let size = interim.len() as u64;
        assert!(next.begins(0, size));
        next.goes_on(&head(interim), size);
        assert!(next.begins(0, 1));
        let mut with_more = Conversation::new(0, true);
        assert!(with_more.begins(0, size + 1));
        with_more.goes_on(&head(interim), size + 1);
        assert!(!with_more.begins(0, 1));
    }

    #[test]
    fn words_survive_the_round_trip() {
        let conversation = Conversation {
            received: 1,
            rest: 2,
            flags: 3,
        };
        assert_eq!(
            Conversation::from_words(conversation.to_words()),
            conversation
        );
    }
}
