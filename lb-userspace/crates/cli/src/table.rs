//! Tables for people: no borders, and texts that fit into a column.

use std::fmt::Write as _;

use comfy_table::{Row, Table, presets};

/// A table with this header.
pub(super) fn plain(header: impl Into<Row>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header);
    table
}

/// The table's lines behind `indent`. Cells are padded: the first begins a column further.
pub(super) fn lines(table: &Table, indent: &str) -> String {
    let mut text = String::new();
    for line in table.lines() {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{indent}{}", line.trim_end());
    }
    text
}

/// The lines of a list of the newest ones, of which `limit` were asked for.
pub(super) fn newest(table: &Table, limit: u32) -> String {
    let mut text = lines(table, "");
    if u32::try_from(table.row_count()) == Ok(limit) {
        let _infallible = writeln!(text, " the newest {limit}; use --limit N to list more");
    }
    text
}

/// What a list says that has nothing in it; `what` is a plural.
pub(super) fn none_yet(what: &str, service: Option<&str>) -> String {
    match service {
        Some(service) => format!("no {what} of {service} yet"),
        None => format!("no {what} yet"),
    }
}

/// The text, cut to at most `width` characters.
pub(super) fn cut(text: String, width: usize) -> String {
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_behind_their_indent_and_have_no_end() {
        let mut table = plain(["ID", "WHEN"]);
        table.add_row(["r1", "now"]);
        assert_eq!(lines(&table, ""), " ID  WHEN\n r1  now\n");
        assert_eq!(lines(&table, " "), "  ID  WHEN\n  r1  now\n");
        assert!(newest(&table, 1).contains("--limit"));
        assert!(!newest(&table, 2).contains("--limit"));
    }

    #[test]
    fn what_is_too_long_ends_in_an_ellipsis() {
        assert_eq!(cut("abcd".to_owned(), 4), "abcd");
        assert_eq!(cut("abcde".to_owned(), 4), "abc…");
    }
}
