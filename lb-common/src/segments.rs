//! What `leave` knows of a connection whose packets it sees: which of them begin a response, and which bytes of the
//! stream it has changed.
//!
//! A packet may be one that was sent before, whole or in other pieces, and it passes the program once for each device
//! on its way. So all is decided by sequence numbers: bytes are taken note of once, and those that were changed are
//! changed again whenever they are sent again.

use crate::{
    head::{CLOSE, HeadReader},
    polite::Conversation,
};

/// How a connection stood just before its client was to be asked: the value that user space gives a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// Bytes the client had sent.
    pub received: u64,
    /// Bytes of the server that had been acknowledged.
    pub acknowledged: u64,
    /// Whether that was all the server had written.
    pub silent: bool,
    /// Whether a request waited for its response.
    pub request_waits: bool,
}

const SILENT: u64 = 1;
const WAITS: u64 = 2;

impl Begun {
    /// Length in words.
    pub const WORDS: usize = 3;

    /// As the map holds it.
    #[inline(always)]
    pub const fn to_words(self) -> [u64; Self::WORDS] {
        let silent = if self.silent { SILENT } else { 0 };
        let waits = if self.request_waits { WAITS } else { 0 };
        [self.received, self.acknowledged, silent | waits]
    }

    /// What these words say.
    #[inline(always)]
    pub const fn from_words(words: [u64; Self::WORDS]) -> Self {
        let [received, acknowledged, flags] = words;
        Self {
            received,
            acknowledged,
            silent: flags & SILENT != 0,
            request_waits: flags & WAITS != 0,
        }
    }
}

/// The socket at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sender {
    /// Bytes the client has sent.
    pub received: u64,
    /// Bytes of the server that have been acknowledged.
    pub acknowledged: u64,
    /// Sequence number of the first byte that has not.
    pub unacknowledged: u32,
    /// Sequence number of the first byte that was not sent yet. It grows after the packet has passed.
    pub next: u32,
}

/// Bytes that pass.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Sequence number of the first.
    pub at: u32,
    /// How many.
    pub size: u32,
}

/// One connection: words of its socket's storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    conversation: Conversation,
    /// The first byte that was not taken note of.
    next: u32,
    /// Where bytes were changed.
    changed_at: u32,
    /// How many bytes have been acknowledged once those have.
    settled_at: u64,
    flags: u64,
}

const STARTED: u64 = 1;
const CHANGED: u64 = 2;

impl Segments {
    /// Length in words.
    pub const WORDS: usize = Conversation::WORDS + 3;

    /// Length of the socket's storage in words: this, and room for a [`HeadReader`].
    pub const STORAGE: usize = Self::WORDS + size_of::<HeadReader>() / size_of::<u64>();

    /// As the map holds it.
    #[inline(always)]
    pub const fn to_words(self) -> [u64; Self::WORDS] {
        let [a, b, c] = self.conversation.to_words();
        let places = (self.changed_at as u64) << 32 | self.next as u64;
        [a, b, c, places, self.settled_at, self.flags]
    }

    /// What these words say.
    #[inline(always)]
    pub const fn from_words(words: [u64; Self::WORDS]) -> Self {
        let [a, b, c, places, settled_at, flags] = words;
        Self {
            conversation: Conversation::from_words([a, b, c]),
            next: places as u32,
            changed_at: (places >> 32) as u32,
            settled_at,
            flags,
        }
    }

    /// Takes note of bytes that pass. Says whether they are proven to begin a response.
    #[inline(always)]
    pub const fn begins(&mut self, begun: Begun, sender: Sender, segment: Segment) -> bool {
        if self.flags & STARTED == 0 {
            if segment.at != sender.next {
                // Sent again, from before the client was to be asked.
                return false;
            }
            // Nothing was missed since it was looked at: no byte was sent in between.
            let is_first = begun.silent
                && begun.acknowledged == sender.acknowledged
                && segment.at == sender.unacknowledged;
            if is_first {
                self.conversation = Conversation::new(begun.received, begun.request_waits);
            }
            self.next = segment.at;
            self.flags |= STARTED;
        }
        let end = segment.at.wrapping_add(segment.size);
        let new = end.wrapping_sub(self.next).cast_signed();
        if new <= 0 {
            return false;
        }
        let is_whole = segment.at == self.next;
        self.next = end;
        // A client that speaks again when it has the whole response before has acknowledged it by then. Packets end
        // anywhere in a body, so this is asked for on top of what a message needs.
        let is_alone = segment.at == sender.unacknowledged || self.conversation.head_is_due();
        // What was missed, and the rest of what was sent before in part, counts and proves nothing.
        self.conversation
            .begins(sender.received, new.unsigned_abs() as u64)
            && is_whole
            && is_alone
    }

    /// Takes note of the head that such a segment began with.
    #[inline(always)]
    pub fn goes_on(&mut self, head: &HeadReader, size: u32) {
        self.conversation.goes_on(head, u64::from(size));
    }

    /// Has [`CLOSE`] stand at `at` from now on. False while other bytes that were changed may have to be sent again.
    #[inline(always)]
    pub const fn change(&mut self, at: u32, sender: Sender) -> bool {
        if self.flags & CHANGED != 0 {
            return false;
        }
        let end = at.wrapping_add(CLOSE.len() as u32);
        let ahead = end.wrapping_sub(sender.unacknowledged);
        self.settled_at = sender.acknowledged.wrapping_add(ahead as u64);
        self.changed_at = at;
        self.flags |= CHANGED;
        true
    }

    /// Forgets the bytes that were changed once they have arrived: they are not sent again, and after some gigabytes
    /// other bytes have their sequence numbers.
    #[inline(always)]
    pub const fn settle(&mut self, sender: Sender) {
        if sender.acknowledged >= self.settled_at {
            self.flags &= !CHANGED;
        }
    }

    /// Nothing was changed after all.
    #[inline(always)]
    pub const fn leave(&mut self) {
        self.flags &= !CHANGED;
    }

    /// Whether changed bytes are among these, and how far the first of them is from the segment's first, which may be
    /// before it.
    #[inline(always)]
    pub const fn changed_in(&self, segment: Segment) -> Option<i32> {
        if self.flags & CHANGED == 0 {
            return None;
        }
        let at = self.changed_at.wrapping_sub(segment.at).cast_signed();
        let length = (CLOSE.len() as u32).cast_signed();
        let touches = at > -length && at < segment.size.cast_signed();
        if touches { Some(at) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";

    fn head() -> HeadReader {
        read(HEAD)
    }

    fn read(text: &[u8]) -> HeadReader {
        let mut reader = HeadReader::default();
        for &byte in text {
            if !reader.read(byte) {
                break;
            }
        }
        reader
    }

    fn sender(received: u64, next: u32) -> Sender {
        Sender {
            received,
            acknowledged: 7,
            unacknowledged: next,
            next,
        }
    }

    fn begun(received: u64, request_waits: bool) -> Begun {
        Begun {
            received,
            acknowledged: 7,
            silent: true,
            request_waits,
        }
    }

    fn segment(at: u32, size: u32) -> Segment {
        Segment { at, size }
    }

    #[test]
    fn the_first_packet_proves_something_if_nothing_was_missed() {
        let begins = |begun, sender: Sender| {
            Segments::default().begins(begun, sender, segment(sender.next, 100))
        };
        assert!(begins(begun(500, true), sender(500, 9)));
        assert!(begins(begun(500, false), sender(600, 9)), "it spoke since");
        assert!(!begins(begun(500, false), sender(500, 9)));
        let acknowledged = Sender {
            acknowledged: 8,
            ..sender(600, 9)
        };
        assert!(
            !begins(begun(500, true), acknowledged),
            "an answer was missed"
        );
        let under_way = Sender {
            unacknowledged: 5,
            ..sender(600, 9)
        };
        assert!(!begins(begun(500, true), under_way), "a piece was missed");
        let busy = Begun {
            silent: false,
            ..begun(500, false)
        };
        assert!(!begins(busy, sender(600, 9)));
    }

    #[test]
    fn what_is_sent_again_is_taken_note_of_once() {
        let mut segments = Segments::default();
        let begun = begun(0, true);
        let start = u32::MAX - 20;
        assert!(segments.begins(begun, sender(0, start), segment(start, 68)));
        segments.goes_on(&head(), 68);
        assert!(
            !segments.begins(begun, sender(0, start), segment(start, 68)),
            "another device"
        );
        let next = start.wrapping_add(68);
        assert!(
            !segments.begins(begun, sender(900, next), segment(start, 30)),
            "again"
        );
        assert!(segments.begins(begun, sender(900, next), segment(next, 68)));
    }

    #[test]
    fn what_was_missed_proves_nothing() {
        let mut segments = Segments::default();
        let begun = begun(0, false);
        assert!(!segments.begins(begun, sender(0, 100), segment(100, 50)));
        assert!(
            !segments.begins(begun, sender(400, 250), segment(250, 50)),
            "a gap"
        );
        assert!(!segments.begins(begun, sender(400, 300), segment(300, 50)));
        assert!(
            !segments.begins(begun, sender(800, 350), segment(340, 60)),
            "old and new"
        );
        assert!(!segments.begins(begun, sender(800, 400), segment(400, 60)));
        assert!(segments.begins(begun, sender(900, 460), segment(460, 60)));
    }

    #[test]
    fn a_response_begins_when_all_before_it_has_arrived() {
        let mut segments = Segments::default();
        let begun = begun(0, true);
        assert!(segments.begins(begun, sender(0, 100), segment(100, 50)));
        let under_way = Sender {
            unacknowledged: 120,
            ..sender(900, 150)
        };
        assert!(
            !segments.begins(begun, under_way, segment(150, 50)),
            "it speaks while it is answered"
        );
        assert!(segments.begins(begun, sender(1800, 200), segment(200, 50)));
    }

    #[test]
    fn the_final_response_follows_an_interim_one_at_once() {
        const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut segments = Segments::default();
        let begun = begun(0, true);
        let size = INTERIM.len() as u32;
        assert!(segments.begins(begun, sender(0, 100), segment(100, size)));
        segments.goes_on(&read(INTERIM), size);
        let not_yet = Sender {
            unacknowledged: 100,
            ..sender(0, 100 + size)
        };
        assert!(segments.begins(begun, not_yet, segment(100 + size, 50)));
    }

    #[test]
    fn changed_bytes_are_found_in_whatever_pieces() {
        let mut segments = Segments::default();
        assert_eq!(segments.changed_in(segment(0, 100)), None);
        let at = u32::MAX - 4;
        assert!(segments.change(at, sender(0, at.wrapping_sub(30))));
        assert_eq!(
            segments.changed_in(segment(at.wrapping_sub(30), 100)),
            Some(30)
        );
        assert_eq!(
            segments.changed_in(segment(at.wrapping_sub(30), 31)),
            Some(30)
        );
        assert_eq!(segments.changed_in(segment(at.wrapping_sub(30), 30)), None);
        assert_eq!(segments.changed_in(segment(4, 9)), Some(-9));
        assert_eq!(segments.changed_in(segment(5, 9)), None);
        segments.leave();
        assert_eq!(segments.changed_in(segment(0, 100)), None);
    }

    #[test]
    fn changed_bytes_are_forgotten_when_they_have_arrived() {
        let mut segments = Segments::default();
        let acknowledged = |bytes: u64| Sender {
            acknowledged: bytes,
            unacknowledged: bytes as u32,
            ..sender(0, 500)
        };
        assert!(segments.change(120, acknowledged(100)));
        segments.settle(acknowledged(129));
        assert!(
            !segments.change(300, acknowledged(129)),
            "its last byte may be sent again"
        );
        assert_eq!(segments.changed_in(segment(129, 9)), Some(-9));
        segments.settle(acknowledged(130));
        assert_eq!(segments.changed_in(segment(120, 10)), None);
        assert!(segments.change(300, acknowledged(130)));
        // Four gigabytes later: the same numbers, other bytes.
        segments.settle(acknowledged(1 << 32));
        assert_eq!(segments.changed_in(segment(300, 10)), None);
    }

    #[test]
    fn words_survive_the_round_trip() {
        let mut segments = Segments::default();
        segments.begins(begun(3, true), sender(3, u32::MAX), segment(u32::MAX, 5));
        segments.change(77, sender(3, 4));
        assert_eq!(Segments::from_words(segments.to_words()), segments);
        let begun = begun(5, true);
        assert_eq!(Begun::from_words(begun.to_words()), begun);
    }
}
