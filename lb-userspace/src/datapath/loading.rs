//! Loading one program of the object by its name, whatever its type: to see whether the kernel takes it.

use aya::{
    Btf, Ebpf,
    programs::{Program, ProgramError},
};

use lb_common::names;

use super::{error::DatapathError, latency};

/// Why a program is not loaded.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The object has no such program.
    Missing,
    /// The kernel does not describe its types, in which the program's tracepoint is looked up.
    Types,
    /// The kernel or its verifier refused it.
    Program(ProgramError),
}

/// The kernel's types, where it describes them.
pub(super) fn types() -> Option<Btf> {
    Btf::from_sys_fs().ok()
}

/// Loads a program, and attaches it to nothing.
pub(super) fn load(
    object: &mut Ebpf,
    name: &'static str,
    types: Option<&Btf>,
) -> Result<(), Refusal> {
    let loaded = match object.program_mut(name) {
        Some(Program::SkReuseport(program)) => program.load(),
        Some(Program::CgroupSockAddr(program)) => program.load(),
        Some(Program::SockOps(program)) => program.load(),
        Some(Program::SkMsg(program)) => program.load(),
        Some(Program::RawTracePoint(program)) => program.load(),
        Some(Program::PerfEvent(program)) => program.load(),
        Some(Program::BtfTracePoint(program)) => {
            let tracepoint = latency::tracepoint(name).ok_or(Refusal::Missing)?;
            program.load(tracepoint, types.ok_or(Refusal::Types)?)
        }
        Some(Program::Iter(program)) => {
            let guards = names::GUARDS.iter().find(|(guard, _)| *guard == name);
            let (_, sockets) = guards.ok_or(Refusal::Missing)?;
            program.load(sockets, types.ok_or(Refusal::Types)?)
        }
        Some(_) => Err(ProgramError::UnexpectedProgramType),
        None => return Err(Refusal::Missing),
    };
    loaded.map_err(Refusal::Program)
}

impl Refusal {
    /// As an error about the program `name`.
    pub(super) fn about(self, name: &'static str) -> DatapathError {
        match self {
            Self::Missing => DatapathError::Missing(name),
            Self::Types => DatapathError::Types("it does not say".to_owned()),
            Self::Program(error) => DatapathError::program(name)(error),
        }
    }
}
