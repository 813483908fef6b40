//! The JSON in `docs/user/api.md` has the fields that the types have.

use std::fs;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::wire::{
    Done, DrainStatus, EndingStatus, GenerationStatus, KeptProfilesStatus, ListenerStatus,
    RolloutStatus, ServiceStatus, Status, Summary,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/user/api.md");

/// What the agent would say instead of what is shown.
fn said<T: DeserializeOwned + Serialize>(shown: Value) -> Value {
    let value: T = serde_json::from_value(shown).unwrap();
    serde_json::to_value(value).unwrap()
}

type Said = fn(Value) -> Value;

/// The types of the blocks, in their order.
const SHOWN: [(&str, Said); 10] = [
    ("the result of a verb", said::<Done>),
    ("the status", said::<Status>),
    ("a service", said::<ServiceStatus>),
    ("its rollout", said::<RolloutStatus>),
    ("its kept profiles", said::<KeptProfilesStatus>),
    ("a generation", said::<GenerationStatus>),
    ("its drain", said::<DrainStatus>),
    ("its ending", said::<EndingStatus>),
    ("a listener", said::<ListenerStatus>),
    ("a rollout", said::<Summary>),
];

/// The value without what it says of its fields: keys only.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), shape(value)))
            .collect(),
        Value::Array(items) => items.iter().map(shape).collect(),
        _ => Value::Null,
    }
}

#[test]
fn the_json_in_the_docs_has_the_fields_of_the_types() {
    let page = fs::read_to_string(PAGE).unwrap();
    let blocks = page.split("```jsonc\n").skip(1);
    let blocks = blocks.map(|rest| {
        let (block, _) = rest.split_once("```").unwrap();
        let lines = block.lines().map(|line| line.split(" //").next().unwrap());
        lines.collect::<Vec<_>>().join("\n")
    });
    let blocks: Vec<String> = blocks.collect();
    assert_eq!(blocks.len(), SHOWN.len());
    for (block, (what, said)) in blocks.iter().zip(SHOWN) {
        let shown: Value = serde_json::from_str(block).expect(block);
        let told = said(shown.clone());
        assert_eq!(shape(&shown), shape(&told), "{what}");
    }
}
