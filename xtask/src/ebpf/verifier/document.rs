//! The table in `docs/verifier.md`: a row for each program, a column for each series of kernels.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};

/// What stands above the table.
const BEGIN: &str = "| program |";

/// What the verifier spends on a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Instructions, states, bytes of stack.
    figures: [u64; 3],
}

/// What the figures are called.
const NAMES: [&str; 3] = ["instructions", "states", "bytes of stack"];
/// Few of something may become a few more: growth within this is none.
const SLACK: [u64; 3] = [20, 5, 16];

/// The document: text before the table, and the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    text: String,
    programs: Vec<String>,
    /// By series, then by program.
    columns: BTreeMap<Series, BTreeMap<String, Cost>>,
}

/// A series of kernels, sorted by its numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    numbers: Vec<u32>,
    name: String,
}

impl Series {
    fn new(name: &str) -> Self {
        let numbers = name.split('.').filter_map(|part| part.parse().ok());
        Self {
            numbers: numbers.collect(),
            name: name.to_owned(),
        }
    }
}

impl Cost {
    /// In words.
    pub(super) fn words(self) -> String {
        let parts = self.figures.iter().zip(NAMES);
        let parts = parts.map(|(figure, name)| format!("{figure} {name}"));
        parts.collect::<Vec<_>>().join(", ")
    }

    fn cell(self) -> String {
        self.figures.map(|figure| figure.to_string()).join(" / ")
    }

    /// Reads three figures with `between` between them.
    fn parse(text: &str, between: char) -> Option<Self> {
        let figures = text.split(between).map(|part| part.trim().parse().ok());
        Some(Self {
            figures: figures.collect::<Option<Vec<_>>>()?.try_into().ok()?,
        })
    }
}

/// Reads what the program that asks the kernel writes.
pub(super) fn parse_answer(answer: &str) -> Result<Vec<(String, Cost)>> {
    let costs = answer.lines().map(|line| {
        let (name, figures) = line.split_once('\t').context("a line without figures")?;
        let cost = Cost::parse(figures, '\t').context("three figures are needed")?;
        Ok((name.to_owned(), cost))
    });
    let costs = costs.collect::<Result<Vec<_>>>()?;
    ensure!(!costs.is_empty(), "the verifier was not asked");
    Ok(costs)
}

impl Document {
    /// Reads it.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        Self::parse(&text).with_context(|| format!("no table in {}", file.display()))
    }

    /// Writes it.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        fs::write(file, self.to_text()).with_context(|| file.display().to_string())?;
        println!("ebpf: written to {}", file.display());
        Ok(())
    }

    fn parse(text: &str) -> Option<Self> {
        let (before, table) = text.split_at(text.find(BEGIN)?);
        let mut rows = table.lines().map(cells);
        let series: Vec<String> = rows.next()?.into_iter().skip(1).collect();
        let mut document = Self {
            text: before.to_owned(),
            programs: Vec::new(),
            columns: BTreeMap::new(),
        };
        for row in rows.skip(1).filter(|row| !row.is_empty()) {
            let mut row = row.into_iter();
            let program = row.next()?.trim_matches('`').to_owned();
            for (series, cell) in series.iter().zip(row) {
                if let Some(cost) = Cost::parse(&cell, '/') {
                    let column = document.columns.entry(Series::new(series)).or_default();
                    column.insert(program.clone(), cost);
                }
            }
            document.programs.push(program);
        }
        Some(document)
    }

    /// Puts a column in place of what it had.
    pub(super) fn put(&mut self, series: &str, costs: &[(String, Cost)]) {
        for (name, _) in costs {
            if !self.programs.contains(name) {
                self.programs.push(name.clone());
            }
        }
        let column = costs.iter().cloned().collect();
        self.columns.insert(Series::new(series), column);
    }

    /// What costs a tenth more than the document says; none if it has no such column.
    pub(super) fn growth(&self, series: &str, costs: &[(String, Cost)]) -> Option<Vec<String>> {
        let column = self.columns.get(&Series::new(series))?;
        let mut growth = Vec::new();
        for (program, cost) in costs {
            let Some(stated) = column.get(program) else {
                growth.push(format!("{program} is not in it"));
                continue;
            };
            let figures = cost.figures.into_iter().zip(stated.figures);
            for ((now, then), (name, slack)) in figures.zip(NAMES.into_iter().zip(SLACK)) {
                if now > then + (then / 10).max(slack) {
                    growth.push(format!("{program}: {now} {name}, not {then}"));
                }
            }
        }
        let is_found = |name: &String| costs.iter().any(|(found, _)| found == name);
        let refused = column.keys().filter(|name| !is_found(name));
        growth.extend(refused.map(|name| format!("{name}: no longer taken")));
        Some(growth)
    }

    fn to_text(&self) -> String {
        let row = |name: &str, cells: Vec<String>| format!("| {name} | {} |\n", cells.join(" | "));
        let columns = &self.columns;
        let names = columns.keys().map(|series| series.name.clone());
        let mut text = self.text.clone() + &row("program", names.collect());
        text += &row("---", columns.iter().map(|_| "---".to_owned()).collect());
        for program in &self.programs {
            let cell = |column: &BTreeMap<String, Cost>| {
                let cost = column.get(program);
                cost.map_or("-".to_owned(), |cost| cost.cell())
            };
            text += &row(
                &format!("`{program}`"),
                columns.values().map(cell).collect(),
            );
        }
        text
    }
}

/// The cells of a row of a Markdown table.
fn cells(row: &str) -> Vec<String> {
    let cells = row.trim().trim_matches('|').split('|').map(str::trim);
    cells
        .filter(|cell| !cell.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Verifier\n\n| program | 6.1 | 6.12 |\n| --- | --- | --- |\n\
                        | `steer` | 1000 / 50 / 64 | 1100 / 55 / 64 |\n| `track` | 10 / 1 / 0 | - |\n";

    fn answer(text: &str) -> Vec<(String, Cost)> {
        parse_answer(text).unwrap()
    }

    #[test]
    fn the_document_comes_back_as_it_was() {
        assert_eq!(Document::parse(TEXT).unwrap().to_text(), TEXT);
    }

    #[test]
    fn a_tenth_more_is_growth_and_a_little_of_little_is_not() {
        let document = Document::parse(TEXT).unwrap();
        let gone = document
            .growth("6.1", &answer("steer\t1000\t50\t64"))
            .unwrap();
        assert_eq!(gone, ["track: no longer taken"]);
        let same = answer("steer\t1100\t55\t64\ntrack\t20\t3\t8");
        assert_eq!(document.growth("6.1", &same), Some(Vec::new()));
        let more = document
            .growth("6.1", &answer("steer\t1101\t50\t64\ntrack\t1\t1\t0"))
            .unwrap();
        assert_eq!(more, ["steer: 1101 instructions, not 1000"]);
        let unknown = document
            .growth(
                "6.1",
                &answer("other\t1\t1\t1\nsteer\t1\t1\t1\ntrack\t1\t1\t0"),
            )
            .unwrap();
        assert_eq!(unknown, ["other is not in it"]);
        assert_eq!(document.growth("6.6", &same), None);
    }

    #[test]
    fn a_column_is_put_at_its_place() {
        let mut document = Document::parse(TEXT).unwrap();
        document.put("6.6", &answer("steer\t7\t1\t8\ntrack\t8\t1\t0"));
        let text = document.to_text();
        assert!(text.contains("| program | 6.1 | 6.6 | 6.12 |"), "{text}");
        assert!(text.contains("| `steer` | 1000 / 50 / 64 | 7 / 1 / 8 | 1100 / 55 / 64 |"));
    }

    #[test]
    fn no_answer_is_an_error() {
        parse_answer("").unwrap_err();
        parse_answer("steer\t1\t2").unwrap_err();
    }
}
