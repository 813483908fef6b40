//! A profile as a file.

mod flame;
mod folded;
mod pprof;

use std::{io, path::Path};

use hotlb_values::profile::{Measure, Profile, Sampled};

use super::diff::Diff;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A flame graph for a browser.
    Svg,
    /// One stack a line, and how often it was sampled.
    Folded,
    /// For `go tool pprof`, Grafana and others (gzipped protobuf).
    Pprof,
    /// Everything, for programs.
    Json,
}

impl Format {
    /// The format a file's name asks for.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends(&[".svg"]) {
            Some(Self::Svg)
        } else if ends(&[".folded", ".txt"]) {
            Some(Self::Folded)
        } else if ends(&[".pb.gz", ".pprof"]) {
            Some(Self::Pprof)
        } else if ends(&[".json"]) {
            Some(Self::Json)
        } else {
            None
        }
    }
}

/// The profile as a file of this format, made at `unix_ms`. Of a diff, the graph and the stacks
/// compare, and pprof has both generations with a label each.
///
/// # Errors
///
/// What the format's writer says.
pub(crate) fn render(profile: &Profile, format: Format, unix_ms: i64) -> io::Result<Vec<u8>> {
    match (format, profile.generations.as_slice()) {
        (Format::Svg, [before, after]) => {
            flame::difference(profile, before, after, &Diff::of(profile, before, after))
        }
        (Format::Svg, _) => flame::graph(profile),
        (Format::Folded, [before, after]) => Ok(folded::compared(profile, before, after, 1.0)
            .join("\n")
            .into()),
        (Format::Folded, all) => Ok(folded::lines(profile, all).join("\n").into()),
        (Format::Pprof, _) => pprof::encode(profile, unix_ms),
        (Format::Json, _) => Ok(serde_json::to_vec_pretty(profile)?),
    }
}

/// "987 samples of 990 expected".
fn samples(sampled: &Sampled) -> String {
    match sampled.expected {
        Some(expected) => format!("{} samples of {expected} expected", sampled.samples),
        None => format!("{} samples", sampled.samples),
    }
}

/// "99 Hz, 10.0 s", and what it is of, if not CPU time.
fn how(profile: &Profile) -> String {
    let seconds = std::time::Duration::from_millis(profile.took_ms).as_secs_f64();
    let of = match profile.measure {
        Measure::Cpu => "",
        Measure::Waiting => "off the CPUs, ",
    };
    format!("{of}{} Hz, {seconds:.1} s", profile.frequency)
}

/// What is missing, for a line below the title.
fn missing(profile: &Profile) -> String {
    let sum = |count: fn(&Sampled) -> u64| profile.generations.iter().map(count).sum::<u64>();
    let mut parts = vec![
        format!("callers by {}", profile.unwind.name()),
        format!("{} truncated", sum(|sampled| sampled.truncated)),
        format!("{} lost", sum(|sampled| sampled.lost)),
    ];
    parts.extend(profile.notes.iter().cloned());
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format() {
        let format = |name: &str| Format::of(Path::new(name));
        assert_eq!(format("/tmp/a.svg"), Some(Format::Svg));
        assert_eq!(format("a.folded"), Some(Format::Folded));
        assert_eq!(format("a.pb.gz"), Some(Format::Pprof));
        assert_eq!(format("a.json"), Some(Format::Json));
        assert_eq!(format("a.gz"), None);
        assert_eq!(format("svg"), None);
    }
}
