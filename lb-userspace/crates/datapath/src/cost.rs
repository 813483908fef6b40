//! What the verifier spent on each program: the kernel refuses one that costs too much.

use aya::programs::ProgramError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    error::DatapathError,
    features::PROGRAMS,
    loading::{self, Refusal},
    object,
};

/// What the verifier says of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The program.
    pub name: &'static str,
    /// Instructions it looked at, over all paths; at most a million.
    pub instructions: u64,
    /// States it kept to compare with.
    pub states: u64,
    /// Bytes of stack, of the program and all functions it calls. No chain of calls may take more than 512.
    pub stack: u64,
}

/// Has the verifier look at every program, and gives an error for each that it refuses. Needs the rights to load them; nothing stays loaded.
///
/// Only for a process of its own: no thread of it can open anything meanwhile. The verifier's words
/// come to light only when the load fails, so it is made to fail where the kernel, after the
/// verifier, hands out a file descriptor.
pub fn costs() -> Result<Vec<Result<Cost, DatapathError>>, DatapathError> {
    let mut object = object::load_for_its_cost()?;
    let types = loading::types().ok();
    let before = getrlimit(Resource::Nofile);
    limit_files(Rlimit {
        current: Some(0),
        maximum: before.maximum,
    })?;
    let costs = PROGRAMS
        .into_iter()
        .map(|name| cost(name, loading::load(&mut object, name, types.as_deref())))
        .collect();
    limit_files(before)?;
    Ok(costs)
}

fn limit_files(limit: Rlimit) -> Result<(), DatapathError> {
    setrlimit(Resource::Nofile, limit).map_err(|errno| DatapathError::System {
        doing: "limit the number of open files",
        source: errno.into(),
    })
}

fn cost(name: &'static str, loaded: Result<(), Refusal>) -> Result<Cost, DatapathError> {
    let unclear = |reason: String| DatapathError::Program { name, reason };
    match loaded {
        Err(Refusal::Program(ProgramError::LoadError {
            io_error,
            verifier_log,
        })) if io_error.raw_os_error() == Some(libc::EMFILE) => {
            let log = verifier_log.to_string();
            parse(name, &log).ok_or_else(|| unclear(format!("no statistics in {log:?}")))
        }
        Err(refusal) => Err(refusal.about(name)),
        Ok(()) => Err(unclear("it was loaded in spite of the limit".to_owned())),
    }
}

/// Reads lines such as `stack depth 64+0` and
/// `processed 231 insns (limit 1000000) max_states_per_insn 1 total_states 15 peak_states 15 …`.
fn parse(name: &'static str, log: &str) -> Option<Cost> {
    let after = |line: &str, word: &str| -> Option<u64> {
        let mut words = line.split_whitespace();
        words.find(|found| *found == word)?;
        words.next()?.parse().ok()
    };
    let find = |begin: &str| log.lines().find(|line| line.starts_with(begin));
    let processed = find("processed ")?;
    let depths = find("stack depth ")?.split_whitespace().last()?;
    let depths = depths.split('+').map(str::parse::<u64>);
    Some(Cost {
        name,
        instructions: after(processed, "processed")?,
        states: after(processed, "total_states")?,
        stack: depths.sum::<Result<u64, _>>().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_s_last_lines_are_read() {
        let log = "verification time 120 usec\nstack depth 64+0+16\n\
                   processed 231 insns (limit 1000000) max_states_per_insn 1 total_states 15 \
                   peak_states 14 mark_read 6\n";
        let cost = parse("steer", log).unwrap();
        assert_eq!((cost.instructions, cost.states, cost.stack), (231, 15, 80));
        assert_eq!(parse("steer", "invalid access"), None);
    }
}
