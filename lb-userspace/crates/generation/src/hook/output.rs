//! What a hook printed: the beginning and the end of it, however much it is.

use std::collections::VecDeque;

use crate::sys::reader::printable;

/// Bytes kept of the beginning, and as many of the end.
const KEPT: usize = 32 * 1024;

/// The first and the last [`KEPT`] bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Output {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
}

impl Output {
    /// Adds what was read.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.head.extend_from_slice(head);
        let (passed, last) = rest
            .split_at_checked(rest.len().saturating_sub(KEPT))
            .unwrap_or((&[], rest));
        let excess = (self.tail.len() + last.len()).saturating_sub(KEPT);
        self.tail.drain(..excess);
        self.tail.extend(last);
        self.dropped += (passed.len() + excess) as u64;
    }

    /// How many bytes are not kept.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What is kept, line by line, without control characters.
    pub(super) fn text(mut self) -> String {
        if self.dropped == 0 {
            self.head.extend(self.tail);
            return lines(&self.head);
        }
        let tail = lines(self.tail.make_contiguous());
        let dropped = self.dropped;
        format!("{}\n[{dropped} bytes left out]\n{tail}", lines(&self.head))
    }
}

/// Printable text; the newlines stay, but for those at the end.
fn lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<String> = text.trim_end().lines().map(printable).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_short_output_whole() {
        let mut output = Output::default();
        output.add(b"one\r\n\ntwo \x1b[31mred\x1b[0m\n");
        output.add("\u{e4}\t\n\n".as_bytes());
        assert_eq!(output.dropped(), 0);
        assert_eq!(
            output.text(),
            "one\n\ntwo \u{fffd}[31mred\u{fffd}[0m\n\u{e4}"
        );
        assert_eq!(Output::default().text(), "");
    }

    #[test]
    fn keeps_both_ends_of_a_long_one() {
        for chunk in [1, 7, 4096, KEPT, 3 * KEPT, 200_000] {
            let all: Vec<u8> = (0..10_000)
                .flat_map(|n| format!("line {n}\n").into_bytes())
                .collect();
            let mut output = Output::default();
            for part in all.chunks(chunk) {
                output.add(part);
                assert!(output.head.len() <= KEPT && output.tail.len() <= KEPT);
            }
            let dropped = all.len() - 2 * KEPT;
            assert_eq!(output.dropped(), dropped as u64, "in chunks of {chunk}");
            assert_eq!(output.head, all[..KEPT]);
            let text = output.text();
            assert!(text.starts_with("line 0\nline 1\n"));
            assert!(text.contains(&format!("\n[{dropped} bytes left out]\n")));
            assert!(text.ends_with("\nline 9999"));
        }
    }

    #[test]
    fn exactly_what_fits_is_whole() {
        let all = vec![b'x'; 2 * KEPT];
        let mut output = Output::default();
        output.add(&all);
        assert_eq!(output.dropped(), 0);
        assert_eq!(output.text().len(), all.len());
        let mut output = Output::default();
        output.add(&all);
        output.add(b"y");
        assert_eq!(output.dropped(), 1);
    }
}
