//! What aya finds in an object: the programs, the maps and the code.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya_obj::{Function, Map, Object, btf::Btf, generated::bpf_insn, maps::PinningType};
use object::{Object as _, ObjectSection as _, SectionIndex, read::elf::ElfFile64};

/// An object as its loader sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// What is agreed with the agent.
    pub(crate) interface: Interface,
    /// Each function's instructions, by its name.
    code: BTreeMap<String, Vec<Instruction>>,
    /// The types, as the kernel gets them.
    btf: Option<Vec<u8>>,
}

/// The programs and maps the agent names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// The section of each program, by its name: it says the hook.
    pub(crate) programs: BTreeMap<String, String>,
    /// The definition of each map, by its name.
    pub(crate) maps: BTreeMap<String, String>,
}

/// Opcode, destination, source, offset, immediate.
type Instruction = (u8, u8, u8, i16, i32);

impl Contents {
    /// Parses the object in `bytes` as the agent does.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let object = Object::parse(bytes).context("aya cannot parse the object")?;
        let functions = object.functions.values();
        Ok(Self {
            interface: Interface::of(&object, bytes)?,
            code: functions
                .map(|function| (function.name.clone(), code(function)))
                .collect(),
            btf: object.btf.as_ref().map(Btf::to_bytes),
        })
    }

    /// The number of instructions in all functions.
    pub(crate) fn instructions(&self) -> usize {
        self.code.values().map(Vec::len).sum()
    }
}

impl Interface {
    fn of(object: &Object, bytes: &[u8]) -> Result<Self> {
        let elf = ElfFile64::<object::Endianness>::parse(bytes)?;
        let mut programs = BTreeMap::new();
        for (name, program) in &object.programs {
            let section = elf.section_by_index(SectionIndex(program.section_index))?;
            programs.insert(name.clone(), section.name()?.to_owned());
        }
        let maps = object
            .maps
            .iter()
            .map(|(name, map)| (name.clone(), definition(map)));
        Ok(Self {
            programs,
            maps: maps.collect(),
        })
    }

    /// The programs and maps that are not the same in both, each with where it is what.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut differing = differing("program", &self.programs, &other.programs);
        differing.extend(self::differing("map", &self.maps, &other.maps));
        differing
    }
}

fn differing(
    noun: &str,
    ours: &BTreeMap<String, String>,
    theirs: &BTreeMap<String, String>,
) -> Vec<String> {
    let missing = "not there".to_owned();
    let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let pairs = names.into_iter().map(|name| {
        (
            name,
            ours.get(name).unwrap_or(&missing),
            theirs.get(name).unwrap_or(&missing),
        )
    });
    let unequal = pairs.filter(|(_, ours, theirs)| ours != theirs);
    unequal
        .map(|(name, ours, theirs)| format!("{noun} {name}: {ours}; {theirs}"))
        .collect()
}

fn code(function: &Function) -> Vec<Instruction> {
    function.instructions.iter().copied().map(fields).collect()
}

fn fields(instruction: bpf_insn) -> Instruction {
    let bpf_insn { code, off, imm, .. } = instruction;
    (code, instruction.dst_reg(), instruction.src_reg(), off, imm)
}

fn definition(map: &Map) -> String {
    let pinned = if map.pinning() == PinningType::ByName {
        ", pinned by name"
    } else {
        ""
    };
    format!(
        "type {}, key {}, value {}, entries {}, flags {:#x}{pinned}",
        map.map_type(),
        map.key_size(),
        map.value_size(),
        map.max_entries(),
        map.map_flags(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(programs: &[(&str, &str)], maps: &[(&str, &str)]) -> Interface {
        let owned = |rows: &[(&str, &str)]| {
            rows.iter()
                .map(|(name, what)| ((*name).to_owned(), (*what).to_owned()))
                .collect()
        };
        Interface {
            programs: owned(programs),
            maps: owned(maps),
        }
    }

    #[test]
    fn equal_interfaces_have_no_differences() {
        let interface = interface(&[("steer", "sk_reuseport")], &[("ROWS", "type 2")]);
        assert!(interface.differences(&interface).is_empty());
    }

    #[test]
    fn what_is_missing_or_changed_is_named_once() {
        let ours = interface(
            &[("steer", "sk_reuseport")],
            &[("ROWS", "type 2"), ("PORTS", "x")],
        );
        let theirs = interface(&[], &[("ROWS", "type 1"), ("PORTS", "x")]);
        let expected = [
            "program steer: sk_reuseport; not there",
            "map ROWS: type 2; type 1",
        ];
        assert_eq!(ours.differences(&theirs), expected);
    }
}
