//! Figures and skips: printed, and written to the file named by `HOTLB_TEST_REPORT` so that `cargo xtask test` can
//! show them together.

#![expect(clippy::print_stdout, reason = "a test speaks through its output")]

use std::{fmt::Display, fs::OpenOptions, io::Write as _};

use anyhow::Result;

/// Reports a measured value, units in the name or the value.
pub fn figure(name: &str, value: impl Display) {
    line(&["figure", name, &value.to_string()]);
}

/// Reports that `test` did not run. A skip is never silent, and an error when `HOTLB_REQUIRE_ALL` is set.
pub fn skip(test: &str, reason: &str) -> Result<()> {
    line(&["skip", test, reason]);
    anyhow::ensure!(
        std::env::var_os("HOTLB_REQUIRE_ALL").is_none(),
        "{test} must not be skipped: {reason}"
    );
    Ok(())
}

/// Prints a remark that is no result, such as trouble while cleaning up.
pub fn remark(text: impl Display) {
    println!("hotlb-tests: {text}");
}

fn line(fields: &[&str]) {
    let line = fields
        .iter()
        .map(|field| within_column(field))
        .collect::<Vec<_>>()
        .join("\t");
    println!("{line}");
    let Some(path) = std::env::var_os("HOTLB_TEST_REPORT") else {
        return;
    };
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = written {
        remark(format!("cannot write to {}: {error}", path.display()));
    }
}

fn within_column(field: &str) -> String {
    field.replace(['\t', '\n'], " ")
}

/// Prints a table as Markdown has it, apart from what is above it.
pub fn table(titles: &[impl AsRef<str>], rows: &[Vec<String>]) {
    let titles: Vec<&str> = titles.iter().map(AsRef::as_ref).collect();
    println!();
    println!("| {} |", titles.join(" | "));
    println!("|{}", " ---: |".repeat(titles.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}
