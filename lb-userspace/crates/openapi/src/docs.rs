//! `openapi.json`, which the agent serves, is what is generated.

use std::{env, fs};

use serde_json::Value;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/src/openapi.json");

#[test]
fn the_document_is_generated_from_the_types() {
    let written = format!("{:#}\n", super::document().unwrap());
    if env::var_os("HOTLB_BLESS").is_some() {
        fs::write(FILE, written).unwrap();
    } else {
        // Thousands of lines: `git diff` shows better what is new.
        let is_same = hotlb_api::OPENAPI == written;
        assert!(
            is_same,
            "write it anew: `HOTLB_BLESS=1 cargo test --lib docs`"
        );
    }
}

/// Rustdoc follows a link to an item; who reads the document cannot.
#[test]
fn descriptions_have_no_links_to_items() {
    let document = super::document().unwrap().to_string();
    let linked = document.split("[`").skip(1);
    let linked: Vec<_> = linked.filter_map(|rest| rest.split('`').next()).collect();
    assert!(linked.is_empty(), "{linked:?}");
}

#[test]
fn references_lead_somewhere() {
    let document = super::document().unwrap();
    let mut left = vec![&document];
    let mut seen = 0;
    while let Some(value) = left.pop() {
        if let Some(reference) = value["$ref"].as_str() {
            let there = document.pointer(reference.trim_start_matches('#'));
            assert!(there.is_some(), "{reference}");
            seen += 1;
        }
        match value {
            Value::Object(fields) => left.extend(fields.values()),
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    assert!(seen > 100, "{seen}");
}

/// The generator numbers a name that two types have.
#[test]
fn every_type_has_a_name_by_itself() {
    let document = super::document().unwrap();
    let names = document["components"]["schemas"].as_object().unwrap();
    let numbered = names.keys().filter(|name| name.ends_with(char::is_numeric));
    assert_eq!(numbered.collect::<Vec<_>>(), [""; 0]);
}
