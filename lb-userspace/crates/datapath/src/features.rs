//! What this kernel can do for hotlb. The probes leave nothing behind.

use std::{error::Error, io};

use aya::{
    Ebpf,
    maps::{Map, MapType},
    programs::{ProgramError, ProgramType},
    sys::{is_map_supported, is_program_supported},
};
use hotlb_sys::mapped::MappedCells;
use lb_common::{names, steering};

use super::{
    error::DatapathError,
    loading::{self, Refusal, Types},
    object, polite,
};

/// The kernel's answer to one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It has it.
    Yes,
    /// It does not know it.
    No,
    /// It refuses to say (EPERM): no right to ask, or bpf(2) is forbidden here.
    Refused,
    /// It failed otherwise; the verifier's last lines when it was the verifier.
    Failed(String),
}

/// A name and the kernel's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The program type, map type or program.
    pub name: &'static str,
    /// The answer.
    pub support: Support,
}

/// How hotlb's own object fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Whether all its maps could be made.
    pub maps: Support,
    /// Whether an array can be mapped into memory.
    pub mapped: Support,
    /// Whether its programs passed the verifier; empty if the maps could not be made.
    pub programs: Vec<Probe>,
    /// Whether a server reads on while the client of its connection is asked to leave by its messages; `None` if
    /// that was not tried, as `polite` did not pass.
    pub reading: Option<Support>,
}

impl Trial {
    /// Whether this program can be used.
    pub fn has(&self, program: &str) -> bool {
        let mut programs = self.programs.iter();
        programs.any(|probe| probe.name == program && probe.support == Support::Yes)
    }
}

/// hotlb's programs. The yardstick does nothing: it shows whether the kernel knows the migrate
/// attach type at all, apart from what the verifier thinks of `steer`.
pub const PROGRAMS: [&str; 17] = [
    names::NOOP,
    names::STEER,
    names::STEER_UDP,
    names::JOIN4,
    names::JOIN6,
    names::OPTIONS,
    names::RESERVE4,
    names::RESERVE6,
    names::TRACK,
    names::POLITE,
    names::LEAVE,
    names::REFUSED,
    names::RECEIVED,
    names::SENT,
    names::GUARDS[0].0,
    names::GUARDS[1].0,
    names::SAMPLE,
];

/// The program types hotlb needs, each tried with a program that does nothing.
pub fn program_types() -> Vec<Probe> {
    let types = [
        ("sk_reuseport", ProgramType::SkReuseport),
        ("cgroup_sock_addr", ProgramType::CgroupSockAddr),
        ("cgroup_sockopt", ProgramType::CgroupSockopt),
        ("sock_ops", ProgramType::SockOps),
        ("sk_msg", ProgramType::SkMsg),
    ];
    types
        .into_iter()
        .map(|(name, kind)| probe(name, is_program_supported(kind)))
        .collect()
}

/// The map types hotlb needs, each tried with the smallest map.
pub fn map_types() -> Vec<Probe> {
    let types = [
        ("reuseport_sockarray", MapType::ReuseportSockArray),
        ("ringbuf", MapType::RingBuf),
        ("lru_hash", MapType::LruHash),
        ("hash", MapType::Hash),
        ("percpu_array", MapType::PerCpuArray),
        ("array", MapType::Array),
        ("sockhash", MapType::SockHash),
        ("sk_storage", MapType::SkStorage),
    ];
    types
        .into_iter()
        .map(|(name, kind)| probe(name, is_map_supported(kind)))
        .collect()
}

/// Makes the object's maps and has the verifier look at its programs. Nothing is pinned or
/// attached: all of it is gone when this returns.
pub fn try_object() -> Trial {
    let mut object = match object::load_unpinned() {
        Ok(object) => object,
        Err(error) => {
            return Trial {
                maps: failed(&error),
                mapped: Support::Failed("the maps could not be made".to_owned()),
                programs: Vec::new(),
                reading: None,
            };
        }
    };
    let types = loading::types().ok();
    let programs: Vec<Probe> = PROGRAMS
        .into_iter()
        .map(|name| Probe {
            name,
            support: use_of(&mut object, name, types.as_deref()),
        })
        .collect();
    let passed = |probe: &Probe| probe.name == names::POLITE && probe.support == Support::Yes;
    let reading = programs
        .iter()
        .any(passed)
        .then(|| polite::try_reading(&mut object).map_or_else(Support::Failed, |()| Support::Yes));
    Trial {
        maps: Support::Yes,
        mapped: map_memory(&object),
        programs,
        reading,
    }
}

fn probe<E: Error + 'static>(name: &'static str, answer: Result<bool, E>) -> Probe {
    let support = match answer {
        Ok(true) => Support::Yes,
        Ok(false) => Support::No,
        Err(error) => failed(&error),
    };
    Probe { name, support }
}

fn map_memory(object: &Ebpf) -> Support {
    let Some(Map::Array(array)) = object.map(names::STEERING) else {
        return failed(&DatapathError::Missing(names::STEERING));
    };
    match MappedCells::new(array.fd(), steering::CELLS) {
        Ok(_) => Support::Yes,
        Err(error) => failed(&error),
    }
}

/// Loaded; and for `leave`, which is attached only while a generation drains, whether it could be.
fn use_of(object: &mut Ebpf, name: &'static str, types: Option<&Types>) -> Support {
    match load(object, name, types) {
        Support::Yes if name == names::LEAVE => {
            polite::try_attaching().map_or_else(Support::Failed, |()| Support::Yes)
        }
        loaded => loaded,
    }
}

fn load(object: &mut Ebpf, name: &'static str, types: Option<&Types>) -> Support {
    match loading::load(object, name, types) {
        Ok(()) => Support::Yes,
        // What the verifier refuses it explains; without a word it was not asked.
        Err(Refusal::Program(ProgramError::LoadError {
            io_error,
            verifier_log,
        })) if verifier_log.to_string().trim().is_empty() => failed(&io_error),
        Err(Refusal::Program(ProgramError::Btf(_))) => Support::No,
        Err(refusal) => match refusal.about(name) {
            DatapathError::Program { reason, .. } => Support::Failed(reason),
            other => failed(&other),
        },
    }
}

/// An error with all its causes, since aya's messages leave them out.
fn failed(error: &(dyn Error + 'static)) -> Support {
    let chain: Vec<_> = std::iter::successors(Some(error), |cause| (*cause).source()).collect();
    let refused = chain.iter().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.raw_os_error() == Some(libc::EPERM))
    });
    if refused {
        return Support::Refused;
    }
    let mut said = Vec::new();
    for cause in chain {
        let text = cause.to_string();
        // Some messages repeat their cause.
        if !said.iter().any(|earlier: &String| earlier.contains(&text)) {
            said.push(text);
        }
    }
    Support::Failed(said.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_below_other_errors() {
        let refusal = DatapathError::System {
            doing: "ask",
            source: io::Error::from_raw_os_error(libc::EPERM),
        };
        assert_eq!(failed(&refusal), Support::Refused);
        let other = DatapathError::System {
            doing: "ask",
            source: io::Error::other("no"),
        };
        assert_eq!(failed(&other), Support::Failed("ask: no".to_owned()));
    }
}
