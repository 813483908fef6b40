//! `cargo xtask lint`: the formatter, clippy, rustdoc, cargo-deny and the project's own rules.
//!
//! Everything runs, whatever failed before it; what failed is named at the end.

mod book;
mod borders;
mod cargo;
mod circles;
mod file_length;
mod finding;
mod imports;
mod links;
mod lints_inherited;
mod lists;
mod log_calls;
mod machine_paths;
mod messages;
mod open_fields;
mod paths;
mod phrases;
mod proofs;
mod quotes;
mod sleeps;
mod sources;
mod spread;
mod walk;
mod words;

use anyhow::{Result, bail};

use self::{finding::Finding, sources::Sources};
use crate::project::Project;

/// One of the project's own rules.
struct Rule {
    name: &'static str,
    check: fn(&Sources) -> Vec<Finding>,
}

const RULES: [Rule; 18] = [
    Rule {
        name: "circles",
        check: circles::check,
    },
    Rule {
        name: "imports",
        check: imports::check,
    },
    Rule {
        name: "sleeps",
        check: sleeps::check,
    },
    Rule {
        name: "file length",
        check: file_length::check,
    },
    Rule {
        name: "lints inherited",
        check: lints_inherited::check,
    },
    Rule {
        name: "machine paths",
        check: machine_paths::check,
    },
    Rule {
        name: "book",
        check: book::check,
    },
    Rule {
        name: "links",
        check: links::check,
    },
    Rule {
        name: "lists",
        check: lists::check,
    },
    Rule {
        name: "log messages",
        check: log_calls::check,
    },
    Rule {
        name: "quoted messages",
        check: messages::check,
    },
    Rule {
        name: "phrases",
        check: phrases::check,
    },
    Rule {
        name: "proofs",
        check: proofs::check,
    },
    Rule {
        name: "quotes",
        check: quotes::check,
    },
    Rule {
        name: "spread types",
        check: spread::check,
    },
    Rule {
        name: "open fields",
        check: open_fields::check,
    },
    Rule {
        name: "walk and locks",
        check: walk::check,
    },
    Rule {
        name: "words",
        check: words::check,
    },
];

/// Runs all checks; the error names those that failed.
pub(crate) fn run(project: &Project) -> Result<()> {
    let mut failed = own_rules(project)?;
    failed.extend(cargo::run(project));
    if !failed.is_empty() {
        bail!("lint: failed: {}", failed.join(", "));
    }
    println!("lint: clean");
    Ok(())
}

/// Shows every finding; gives the names of the broken rules.
fn own_rules(project: &Project) -> Result<Vec<&'static str>> {
    let sources = Sources::read(project)?;
    let mut broken = Vec::new();
    for Rule { name, check } in RULES {
        let findings = check(&sources);
        for finding in &findings {
            println!("{finding}");
        }
        println!(
            "lint: {name}: {} findings in {} files",
            findings.len(),
            sources.files.len()
        );
        if !findings.is_empty() {
            broken.push(name);
        }
    }
    Ok(broken)
}
