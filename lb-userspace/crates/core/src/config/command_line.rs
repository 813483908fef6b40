//! A command as people write it down.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

/// A program and its arguments: `["program", "argument"]`, or a text that a shell runs.
pub(super) struct CommandLine(pub(super) Vec<String>);

/// The command that has a shell run `text`; empty for a text without a word.
pub(super) fn shell(text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    ["/bin/sh", "-c", text].map(str::to_owned).to_vec()
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CommandVisitor)
    }
}

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = CommandLine;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a shell command, or [\"program\", \"argument\"]")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(CommandLine(shell(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Self::Value, A::Error> {
        let mut command = Vec::new();
        while let Some(word) = words.next_element()? {
            command.push(word);
        }
        Ok(CommandLine(command))
    }
}
