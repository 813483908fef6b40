//! Loading one program of the object by its name, whatever its type: to see whether the kernel takes it.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use aya::{
    Btf, Ebpf,
    programs::{Program, ProgramError},
};

use hotlb_sys::heap::GivesBack;
use lb_common::names;

use super::{error::DatapathError, latency, verified::verified};

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

/// The kernel's types: some 20 MB that take 30 ms to read, so there is one copy of them while
/// anybody has one, or a [`Batch`] goes on.
///
/// # Errors
///
/// When the kernel does not describe them.
pub(super) fn types() -> Result<Arc<Types>, DatapathError> {
    let mut read = read();
    if let Some(types) = read.last.upgrade() {
        return Ok(types);
    }
    let types = Btf::from_sys_fs().map_err(|error| DatapathError::Types(error.to_string()))?;
    let types = Arc::new(Types(types));
    read.last = Arc::downgrade(&types);
    if read.batches > 0 {
        read.kept = Some(Arc::clone(&types));
    }
    Ok(types)
}

/// While one lives, what was read for one service is kept for the next.
#[derive(Debug)]
pub struct Batch(());

impl Batch {
    /// Begins one.
    pub fn begin() -> Self {
        read().batches += 1;
        Self(())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let mut read = read();
        read.batches = read.batches.saturating_sub(1);
        let given_up = if read.batches == 0 {
            read.kept.take()
        } else {
            None
        };
        drop(read);
        drop(given_up);
    }
}

#[derive(Debug)]
struct Read {
    last: Weak<Types>,
    kept: Option<Arc<Types>>,
    batches: usize,
}

fn read() -> MutexGuard<'static, Read> {
    static READ: Mutex<Read> = Mutex::new(Read {
        last: Weak::new(),
        kept: None,
        batches: 0,
    });
    READ.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel's types while they are in use.
#[derive(Debug)]
pub(super) struct Types(Btf);

impl Deref for Types {
    type Target = Btf;

    fn deref(&self) -> &Btf {
        &self.0
    }
}

impl Drop for Types {
    fn drop(&mut self) {
        let _after = GivesBack::at_the_end();
        self.0 = Btf::default();
    }
}

/// Loads a program, and attaches it to nothing.
pub(super) fn load(
    object: &mut Ebpf,
    name: &'static str,
    types: Option<&Types>,
) -> Result<(), Refusal> {
    let loaded = match object.program_mut(name) {
        Some(Program::SkReuseport(program)) => verified(|| program.load()),
        Some(Program::CgroupSockAddr(program)) => verified(|| program.load()),
        Some(Program::CgroupSockopt(program)) => verified(|| program.load()),
        Some(Program::SockOps(program)) => verified(|| program.load()),
        Some(Program::SkMsg(program)) => verified(|| program.load()),
        Some(Program::SchedClassifier(program)) => verified(|| program.load()),
        Some(Program::RawTracePoint(program)) => verified(|| program.load()),
        Some(Program::PerfEvent(program)) => verified(|| program.load()),
        Some(Program::BtfTracePoint(program)) => {
            let tracepoint = latency::tracepoint(name).ok_or(Refusal::Missing)?;
            let types = types.ok_or(Refusal::Types)?;
            verified(|| program.load(tracepoint, types))
        }
        Some(Program::Iter(program)) => {
            let guards = names::GUARDS.iter().find(|(guard, _)| *guard == name);
            let (_, sockets) = guards.ok_or(Refusal::Missing)?;
            let types = types.ok_or(Refusal::Types)?;
            verified(|| program.load(sockets, types))
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
