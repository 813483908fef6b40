//! Finds every path (`a::b::c`) a Rust file names: imports with their groups expanded, expressions,
//! types, attributes and the insides of macro calls. Comments and strings do not count.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree, token_stream::IntoIter};

/// One path as it stands in a file; a keyword or a single name counts as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPath {
    /// Its parts; `*` last for a glob import.
    pub(crate) segments: Vec<String>,
    /// Where it begins, from 1.
    pub(crate) line: usize,
    /// Whether it stands in an item marked `#[cfg(test)]`.
    pub(crate) in_test: bool,
}

/// All paths of the file `text`, in order.
pub(crate) fn in_file(text: &str) -> Result<Vec<NamedPath>> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("not Rust: {error}"))?;
    let mut found = Vec::new();
    let top = Walk {
        prefix: &[],
        in_test: false,
        found: &mut found,
    };
    top.stream(tokens);
    Ok(found)
}

/// One pass over the tokens inside one pair of brackets.
struct Walk<'a> {
    /// What stands before the braces, inside the group of an import.
    prefix: &'a [String],
    in_test: bool,
    found: &'a mut Vec<NamedPath>,
}

impl Walk<'_> {
    fn stream(mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter();
        let mut previous = Previous::default();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Ident(ident) => self.path(&ident, &mut tokens, &mut previous),
                TokenTree::Group(group) => self.group(&group, &mut previous),
                TokenTree::Punct(punct) if punct.as_char() == ';' => previous = Previous::default(),
                TokenTree::Punct(punct) if punct.as_char() == '#' => previous.hash = true,
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// `first` and everything that `::` joins to it.
    fn path(&mut self, first: &Ident, tokens: &mut IntoIter, previous: &mut Previous) {
        let mut segments = self.prefix.to_vec();
        segments.push(first.to_string());
        let mut group = None;
        while skip_colons(tokens) {
            match tokens.next() {
                Some(TokenTree::Ident(next)) => segments.push(next.to_string()),
                Some(TokenTree::Group(inner)) => {
                    group = Some(inner);
                    break;
                }
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                    segments.push("*".to_owned());
                }
                _ => break,
            }
        }
        match group {
            Some(group) => {
                let inside = Walk {
                    prefix: &segments,
                    in_test: self.in_test || previous.test,
                    found: self.found,
                };
                inside.stream(group.stream());
            }
            None => self
                .found
                .push(self.named(segments.clone(), first, previous)),
        }
        previous.hash = false;
    }

    fn named(&self, segments: Vec<String>, first: &Ident, previous: &Previous) -> NamedPath {
        NamedPath {
            segments,
            line: first.span().start().line,
            in_test: self.in_test || previous.test,
        }
    }

    fn group(&mut self, group: &Group, previous: &mut Previous) {
        let is_attribute = previous.hash && group.delimiter() == Delimiter::Bracket;
        let is_item = group.delimiter() == Delimiter::Brace;
        let inside = Walk {
            prefix: &[],
            in_test: self.in_test || previous.test,
            found: self.found,
        };
        inside.stream(group.stream());
        previous.hash = false;
        if is_attribute {
            previous.test |= group.stream().to_string().replace(' ', "") == "cfg(test)";
        } else if is_item {
            *previous = Previous::default();
        }
    }
}

/// What came before a token in the same item.
#[derive(Debug, Default)]
struct Previous {
    /// A `#`, perhaps with its `!`.
    hash: bool,
    /// The item is marked `#[cfg(test)]`.
    test: bool,
}

/// Takes `::` if it comes next.
fn skip_colons(tokens: &mut IntoIter) -> bool {
    let mut ahead = tokens.clone();
    let mut colon =
        || matches!(ahead.next(), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    let colons = colon() && colon();
    if colons {
        *tokens = ahead;
    }
    colons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        in_file(text)
            .unwrap()
            .iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    #[test]
    fn groups_of_imports_are_expanded() {
        let text = "use tokio::{fs, time::{self, sleep}}; use aya::*;";
        let expected = [
            "use",
            "tokio::fs",
            "tokio::time::self",
            "tokio::time::sleep",
            "use",
            "aya::*",
        ];
        assert_eq!(paths(text), expected);
    }

    #[test]
    fn macros_and_attributes_count_but_comments_and_strings_do_not() {
        let text = "// a::b\n#[c::d] fn f() { g!(h::i, \"j::k\") } /* unsafe */";
        assert_eq!(paths(text), ["c::d", "fn", "f", "g", "h::i"]);
    }

    #[test]
    fn lines_count_from_one() {
        let found = in_file("\nuse a::b;").unwrap();
        assert_eq!(found.last().map(|path| path.line), Some(2));
    }

    #[test]
    fn only_what_is_marked_counts_as_a_test() {
        let text =
            "a::b(); #[cfg(test)] mod tests { c::d(); } e::f(); #[cfg(test)] use g::h; i::j();";
        let found = in_file(text).unwrap();
        let in_test = found
            .iter()
            .filter(|path| path.in_test && path.segments.len() > 1);
        let in_test: Vec<_> = in_test.map(|path| path.segments.join("::")).collect();
        assert_eq!(in_test, ["c::d", "g::h"]);
    }
}
