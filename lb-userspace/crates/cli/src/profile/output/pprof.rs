//! The format of pprof (`github.com/google/pprof/proto/profile.proto`), the parts that are used.

use std::{collections::HashMap, io, io::Write as _};

use flate2::{Compression, write::GzEncoder};
use prost::Message;

use hotlb_values::profile::{Measure, Profile};

#[derive(Clone, PartialEq, Message)]
struct Root {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// Texts, each once; the first is empty, as the format wants.
struct Texts {
    all: Vec<String>,
    places: HashMap<String, i64>,
}

impl Texts {
    fn new() -> Self {
        Self {
            all: vec![String::new()],
            places: HashMap::from([(String::new(), 0)]),
        }
    }

    fn place(&mut self, text: &str) -> i64 {
        if let Some(&place) = self.places.get(text) {
            return place;
        }
        let place = signed(self.all.len() as u64);
        self.all.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}

/// The profile, made at `unix_ms`, compressed.
pub(super) fn encode(profile: &Profile, unix_ms: i64) -> io::Result<Vec<u8>> {
    let root = root(profile, unix_ms);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&root.encode_to_vec())?;
    gzip.finish()
}

fn root(profile: &Profile, unix_ms: i64) -> Root {
    let mut texts = Texts::new();
    let what = match profile.measure {
        Measure::Cpu => "cpu",
        Measure::Waiting => "off_cpu",
    };
    let period = 1_000_000_000 / i64::from(profile.frequency.max(1));
    let mut value_type = |kind, unit| ValueType {
        kind: texts.place(kind),
        unit: texts.place(unit),
    };
    let sample_type = vec![
        value_type("samples", "count"),
        value_type(what, "nanoseconds"),
    ];
    let period_type = Some(value_type(what, "nanoseconds"));
    let mut root = Root {
        sample_type,
        period_type,
        period,
        time_nanos: unix_ms.saturating_mul(1_000_000),
        duration_nanos: signed(profile.took_ms).saturating_mul(1_000_000),
        ..Root::default()
    };
    code(profile, &mut root, &mut texts);
    let (thread, generation) = (texts.place("thread"), texts.place("generation"));
    for sampled in &profile.generations {
        let of_generation = Label {
            key: generation,
            text: texts.place(&sampled.generation),
        };
        for stack in &sampled.stacks {
            let of_thread = Label {
                key: thread,
                text: texts.place(&stack.thread),
            };
            let count = signed(stack.count);
            // Frames are counted from 0, locations from 1; the innermost comes first.
            let frames = stack.frames.iter().rev();
            root.sample.push(Sample {
                location_id: frames.map(|&frame| u64::from(frame) + 1).collect(),
                value: vec![count, count.saturating_mul(period)],
                label: vec![of_generation, of_thread],
            });
        }
    }
    for note in &profile.notes {
        root.comment.push(texts.place(note));
    }
    root.string_table = texts.all;
    root
}

/// Functions, a location for each, and the files they are in.
fn code(profile: &Profile, root: &mut Root, texts: &mut Texts) {
    let mut mappings: HashMap<&str, u64> = HashMap::new();
    for (frame, id) in profile.frames.iter().zip(1..) {
        let name = texts.place(&frame.name);
        let mapping_id = frame.module.as_deref().map_or(0, |module| {
            *mappings.entry(module).or_insert_with(|| {
                let id = root.mapping.len() as u64 + 1;
                root.mapping.push(Mapping {
                    id,
                    filename: texts.place(module),
                    has_functions: true,
                    has_inline_frames: true,
                });
                id
            })
        });
        root.function.push(Function {
            id,
            name,
            system_name: name,
            filename: 0,
        });
        root.location.push(Location {
            id,
            mapping_id,
            line: vec![Line { function_id: id }],
        });
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::{super::super::fixture::profile, *};

    #[test]
    fn what_is_decoded_is_what_was_sampled() {
        let profile = profile(&[&[("main;spin", 3), ("main;work", 4)]]);
        let bytes = encode(&profile, 1_000).unwrap();
        let mut plain = Vec::new();
        GzDecoder::new(&*bytes).read_to_end(&mut plain).unwrap();
        let root = Root::decode(&*plain).unwrap();
        assert_eq!(root.string_table[0], "");
        let total: i64 = root.sample.iter().map(|sample| sample.value[0]).sum();
        assert_eq!(total, 7);
        let leaf = root.sample[0].location_id[0];
        let function = root.location.iter().find(|l| l.id == leaf).unwrap().line[0].function_id;
        let name = root
            .function
            .iter()
            .find(|f| f.id == function)
            .unwrap()
            .name;
        assert_eq!(root.string_table[usize::try_from(name).unwrap()], "spin");
        assert_eq!(root.period, 10_101_010);
    }
}
