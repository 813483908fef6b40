//! What the benchmarks ran on.

use std::{fs, process::Command};

use anyhow::Result;

use crate::{command, project::Project};

/// Programs that are measured or measure, and what makes them say their version.
const PROGRAMS: [(&str, &str); 5] = [
    ("rustc", "--version"),
    ("nginx", "-v"),
    ("haproxy", "-v"),
    ("wrk", "-v"),
    ("perf", "--version"),
];

/// Names and values.
pub(super) fn describe(project: &Project) -> Result<Vec<(&'static str, String)>> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = field(&cpuinfo, "model name").unwrap_or("unknown");
    let is_virtual = field(&cpuinfo, "flags")
        .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = field(&memory, "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse().ok())
        .unwrap_or_default();
    let cpus = std::thread::available_parallelism()?;
    let ask = |program: &str, argument: &str| command::capture(Command::new(program).arg(argument));
    let mut rows = vec![
        ("date", ask("date", "-uI")?),
        (
            "machine",
            format!(
                "{model}, {cpus} CPUs{}, {} GiB",
                if is_virtual {
                    " of a virtual machine"
                } else {
                    ""
                },
                kib >> 20
            ),
        ),
        ("kernel", ask("uname", "-srm")?),
    ];
    let mut git = Command::new("git");
    git.current_dir(project.root());
    git.args(["describe", "--always", "--dirty"]);
    rows.push(("hotlb", command::capture(&mut git)?));
    rows.extend(PROGRAMS.map(|(name, argument)| (name, version(name, argument))));
    Ok(rows)
}

/// The first line that it prints, wherever it prints it.
fn version(program: &str, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else {
        return "not installed".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}
