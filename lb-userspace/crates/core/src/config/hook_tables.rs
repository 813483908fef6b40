//! `[service.NAME.hooks]`: how hooks are written down.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    command_line::{CommandLine, shell},
    hooks::{Hook, HookError, HookPhase},
    policy_tables::Span,
};

/// `[service.NAME.hooks]`: hooks by phase, in the order in which they run.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct HookTables {
    #[serde(default, deserialize_with = "pre_load")]
    pre_load: Vec<Hook>,
    #[serde(default, deserialize_with = "validate")]
    validate: Vec<Hook>,
    #[serde(default, deserialize_with = "swap")]
    swap: Vec<Hook>,
    #[serde(default, deserialize_with = "post_rollback")]
    post_rollback: Vec<Hook>,
}

impl HookTables {
    /// All of them.
    pub(super) fn into_hooks(self) -> Vec<Hook> {
        let phases = [self.pre_load, self.validate, self.swap, self.post_rollback];
        phases.into_iter().flatten().collect()
    }
}

fn pre_load<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hook>, D::Error> {
    deserializer.deserialize_any(HooksOf(HookPhase::PreLoad))
}

fn validate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hook>, D::Error> {
    deserializer.deserialize_any(HooksOf(HookPhase::Validate))
}

fn swap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hook>, D::Error> {
    deserializer.deserialize_any(HooksOf(HookPhase::Swap))
}

fn post_rollback<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hook>, D::Error> {
    deserializer.deserialize_any(HooksOf(HookPhase::PostRollback))
}

/// One hook, or several in an array of tables.
struct HooksOf(HookPhase);

impl HooksOf {
    fn plain<E: de::Error>(&self, command: Vec<String>) -> Result<Vec<Hook>, E> {
        let hook = Hook::new(self.0, command).map_err(de::Error::custom)?;
        Ok(vec![hook])
    }
}

impl<'de> Visitor<'de> for HooksOf {
    type Value = Vec<Hook>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a shell command, [\"program\", \"argument\"], { command = … }, or an array of such \
             tables",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.plain(shell(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut hooks = Vec::new();
        let mut words = Vec::new();
        while let Some(item) = items.next_element()? {
            match item {
                Item::Word(word) => words.push(word),
                Item::Table(table) => hooks.push(table.hook(self.0).map_err(de::Error::custom)?),
            }
            if !hooks.is_empty() && !words.is_empty() {
                return Err(de::Error::custom(
                    "the array is either one command, [\"program\", \"argument\"], or hooks: \
                     [{ command = … }, { command = … }]",
                ));
            }
        }
        if words.is_empty() {
            Ok(hooks)
        } else {
            self.plain(words)
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let table = HookTable::deserialize(MapAccessDeserializer::new(map))?;
        let hook = table.hook(self.0).map_err(de::Error::custom)?;
        Ok(vec![hook])
    }
}

/// An element of an array.
enum Item {
    Word(String),
    Table(HookTable),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word of a command, or a table { command = … }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Item::Word(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        HookTable::deserialize(MapAccessDeserializer::new(map)).map(Item::Table)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HookTable {
    command: CommandLine,
    deadline: Option<Span>,
    #[serde(default)]
    reentrant: bool,
}

impl HookTable {
    fn hook(self, phase: HookPhase) -> Result<Hook, HookError> {
        Hook {
            phase,
            command: self.command.0,
            deadline: self
                .deadline
                .map_or(phase.default_deadline(), |span| span.0),
            reentrant: self.reentrant,
        }
        .checked()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Result<Vec<Hook>, String> {
        toml::from_str::<HookTables>(text)
            .map(HookTables::into_hooks)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_hook_is_written_in_several_ways() {
        let hooks = parse(
            r#"
            pre_load = { command = ["fetch", "--all"], deadline = "1m 30s", reentrant = true }
            validate = "test -e /srv/ok"
            swap = ["note", "it"]
            [[post_rollback]]
            command = "echo one"
            [[post_rollback]]
            command = ["two"]
            deadline = "10ms"
            "#,
        )
        .unwrap();
        let shell_text = |text: &str| ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
        let hook = |phase: HookPhase, command| Hook::new(phase, command).unwrap();
        let expected = [
            Hook {
                deadline: Duration::from_secs(90),
                reentrant: true,
                ..hook(HookPhase::PreLoad, vec!["fetch".into(), "--all".into()])
            },
            hook(HookPhase::Validate, shell_text("test -e /srv/ok")),
            hook(HookPhase::Swap, vec!["note".into(), "it".into()]),
            hook(HookPhase::PostRollback, shell_text("echo one")),
            Hook {
                deadline: Duration::from_millis(10),
                ..hook(HookPhase::PostRollback, vec!["two".into()])
            },
        ];
        assert_eq!(hooks, expected);
        assert_eq!(parse(""), Ok(Vec::new()));
        let array = parse("swap = [{ command = \"a\" }, { command = \"b\" }]").unwrap();
        assert_eq!(array.len(), 2);
    }

    #[test]
    fn says_where_and_what_is_wrong() {
        let cases = [
            ("bake = \"true\"", "unknown field `bake`"),
            ("swap = 5", "a shell command, [\"program\", \"argument\"]"),
            ("swap = [5]", "a word of a command, or a table"),
            ("swap = \" \"", "the command of a swap hook is empty"),
            ("swap = [\"\"]", "the command of a swap hook is empty"),
            ("swap = { deadline = \"1s\" }", "missing field `command`"),
            (
                "swap = { command = \"a\", dedline = \"1s\" }",
                "unknown field `dedline`",
            ),
            ("swap = [\"a\", { command = \"b\" }]", "either one command"),
            (
                "validate = { command = \"a\", deadline = \"0s\" }",
                "a validate hook cannot have a deadline of 0s: use 1ms to 24h, or omit it for 10s",
            ),
            (
                "swap = { command = \"a\", deadline = \"2days\" }",
                "use 1ms to 24h",
            ),
            (
                "swap = { command = \"a\", deadline = \"soon\" }",
                "\"soon\" is not a duration",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("line 1, column"), "{text}: {error}");
        }
    }
}
