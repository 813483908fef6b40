//! The configuration that documents show is accepted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::Config;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs");
const BLOCK: &str = "```toml\n";

fn accepted(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("hotlb.toml")).map_err(|error| error.to_string())
}

/// Every page in the directory and those below.
fn pages(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "md") {
            found.push(path);
        }
    }
}

/// A snippet leaves out what it is not about: a service, and its addresses.
fn completed(block: &str) -> String {
    let mut table: Table = block.parse().expect(block);
    if !table.contains_key("service") {
        let services = Table::from_iter([("web".to_owned(), Value::Table(Table::new()))]);
        table.insert("service".to_owned(), Value::Table(services));
    }
    let services = table.get_mut("service").and_then(Value::as_table_mut);
    for (_, service) in services.into_iter().flatten() {
        let service = service.as_table_mut().unwrap();
        let listen =
            ["0.0.0.0:80", "udp://0.0.0.0:80"].map(|address| Value::String(address.to_owned()));
        service
            .entry("listen")
            .or_insert_with(|| Value::Array(listen.to_vec()));
    }
    table.to_string()
}

#[test]
fn snippets_in_the_docs_are_accepted() {
    let mut found = Vec::new();
    pages(Path::new(DOCS), &mut found);
    let mut count = 0;
    for page in found {
        let text = fs::read_to_string(&page).unwrap();
        for rest in text.split(BLOCK).skip(1) {
            let (block, _) = rest.split_once("```").unwrap();
            if let Err(error) = accepted(&completed(block)) {
                panic!("{}: {error}:\n{block}", page.display());
            }
            count += 1;
        }
    }
    assert!(count > 8, "documents show {count} snippets");
}

fn example() -> String {
    fs::read_to_string(Path::new(DOCS).join("hotlb.toml")).unwrap()
}

#[test]
fn the_example_is_accepted_as_it_is() {
    let config = accepted(&example()).unwrap();
    assert_eq!(config.services.len(), 1);
}

/// `#key = value` and `#[section]`; a comment in words has a space behind its mark.
fn is_commented_out(line: &str) -> bool {
    line.starts_with('#') && !line.starts_with("# ") && line.len() > 1
}

/// How a block begins that needs another key too.
const NEEDS: [(&str, &str); 2] = [
    ("[traces]", "endpoint = \"http://127.0.0.1:4317\"\n"),
    ("[service.web]\nquic_server_id", "flow = \"quic\"\n"),
];

/// Each key that is commented out is a key that there is, with a value that it may have.
#[test]
fn what_the_example_comments_out_is_accepted_line_by_line() {
    let text = example();
    let lines: Vec<&str> = text.lines().collect();
    let mut count = 0;
    for (at, line) in lines.iter().enumerate() {
        if !is_commented_out(line) || line.starts_with("#[") {
            continue;
        }
        // The sections it belongs to hold, whether they are commented out or not.
        let before = lines.iter().take(at);
        let section = before.clone().rev().find_map(|line| {
            let line = line.strip_prefix('#').unwrap_or(line);
            (line.starts_with('[') && line.ends_with(']')).then_some(line)
        });
        let key = line.strip_prefix('#').unwrap();
        if key.contains("www-data") {
            // Not every host has that user.
            continue;
        }
        let mut block = format!("{}\n{key}\n", section.unwrap());
        let name = key.split(' ').next().unwrap();
        for (begins, other) in NEEDS {
            if block.starts_with(begins) && !other.starts_with(name) {
                block.push_str(other);
            }
        }
        if let Err(error) = accepted(&completed(&block)) {
            panic!("hotlb.toml:{}: {error}", at + 1);
        }
        count += 1;
    }
    assert!(count > 20, "{count} keys");
}
