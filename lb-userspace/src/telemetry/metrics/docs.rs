//! `docs/metrics.md` says what the table says, and whoever names a metric names one of it.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf};

use super::{
    row::{Kind, Metric, Section},
    table,
};

fn docs(file: &str) -> PathBuf {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    PathBuf::from(docs).join(file)
}

fn rows(section: &Section) -> String {
    let mut text =
        "| metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for metric in section.rows {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        writeln!(
            text,
            "| `{}` | {kind} | {} | {} | {} |",
            metric.whole_name(),
            metric.split().1.unwrap_or_default(),
            metric.labels.join(", "),
            metric.help,
        )
        .unwrap();
    }
    text
}

/// The same text with the tables of the parts as they should be.
fn written(mut text: String) -> String {
    for section in table::TABLE {
        let begin = format!("<!-- table of {} -->\n", section.mark);
        let (before, rest) = text.split_once(&begin).expect(&begin);
        let (_, after) = rest.split_once("<!-- end -->").expect(section.mark);
        text = format!("{before}{begin}{}<!-- end -->{after}", rows(section));
    }
    text
}

#[test]
fn the_metrics_in_the_docs_are_those_of_the_table() {
    let path = docs("metrics.md");
    let shown = fs::read_to_string(&path).unwrap();
    let written = written(shown.clone());
    if std::env::var_os("HOTLB_BLESS").is_some() {
        fs::write(&path, written).unwrap();
    } else {
        assert_eq!(shown, written, "write it anew with HOTLB_BLESS=1");
    }
}

#[test]
fn rows_follow_the_rules_of_prometheus() {
    let mut names = BTreeSet::new();
    for metric in table::all() {
        let name = metric.name;
        assert!(names.insert(name), "{name} is there twice");
        assert!(!name.ends_with("_total"), "{name}: the encoder adds it");
        assert!(!metric.help.ends_with('.') && !metric.help.contains(['|', '\n', '\\']));
        let mut labels = metric.labels.to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), metric.labels.len(), "{name}");
        assert!(!labels.contains(&"le"), "{name}");
    }
}

/// The words in `text` that look like the name of a metric of hotlb.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with("hotlb_") || word.starts_with("process_"))
}

fn is_series_of(metric: &Metric, word: &str) -> bool {
    let rest = word.strip_prefix(&*metric.whole_name());
    match metric.kind {
        // A native one goes by the family's name.
        Kind::Histogram => {
            rest.is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
        }
        Kind::Counter | Kind::Gauge => rest == Some(""),
    }
}

#[test]
fn alerts_and_dashboard_name_metrics_that_exist() {
    for file in ["prometheus/alerts.yml", "prometheus/dashboard.json"] {
        let text = fs::read_to_string(docs(file)).unwrap();
        let mut found = 0;
        for word in named(&text) {
            assert!(
                table::all().any(|metric| is_series_of(metric, word)),
                "{file} names {word}, which is no metric"
            );
            found += 1;
        }
        assert!(found > 10, "{file} names {found} metrics");
    }
}

#[test]
fn every_alert_has_its_part_in_the_operations_manual() {
    let alerts = fs::read_to_string(docs("prometheus/alerts.yml")).unwrap();
    let manual = fs::read_to_string(docs("operations.md")).unwrap();
    let value = |line: &str, key: &str| {
        let value = line.trim().trim_start_matches("- ").strip_prefix(key)?;
        Some(value.trim().trim_matches('"').to_owned())
    };
    let mut count = 0;
    for line in alerts.lines() {
        if let Some(alert) = value(line, "alert:") {
            let heading = format!("\n### {alert}\n");
            assert!(manual.contains(&heading), "operations.md: no {heading:?}");
            count += 1;
        }
        if let Some(runbook) = value(line, "runbook_url:") {
            let (_, anchor) = runbook.split_once("docs/operations.md#").expect(&runbook);
            let has = |line: &str| {
                let heading = line.strip_prefix("### ");
                heading.is_some_and(|heading| heading.to_lowercase() == anchor)
            };
            assert!(manual.lines().any(has), "operations.md: no #{anchor}");
            count -= 1;
        }
    }
    assert_eq!(count, 0, "an alert without a runbook");
}

#[test]
fn the_dashboard_is_json_and_each_panel_asks_something() {
    let text = fs::read_to_string(docs("prometheus/dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let asks = panel["targets"][0]["expr"].as_str();
        assert!(asks.is_some_and(|expr| !expr.is_empty()), "{panel}");
    }
}
