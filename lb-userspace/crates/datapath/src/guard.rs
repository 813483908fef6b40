//! Whose program decides about each reuseport group: anybody may replace hotlb's, and nobody is told.

use std::{
    collections::HashMap,
    fmt, io,
    io::Read as _,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use aya::{Btf, Ebpf, EbpfLoader, programs::Iter};
use hotlb_sys::{clock, heap::GivesBack, netns::Netns};
use lb_common::names;

use super::{error::DatapathError, kernel_fields, object, verified::verified};

/// What one look found is used by all services for so long.
const FRESH: Duration = Duration::from_millis(500);

/// What one look found is kept for so long.
const KNOWN: Duration = Duration::from_mins(1);

/// The id of the program that decides about the group of each socket that has one, by the socket's
/// cookie; 0 for none, [`u32::MAX`] for a classic filter.
pub type Deciding = HashMap<u64, u32>;

/// The iterators, loaded once for all services.
struct Guard {
    object: Ebpf,
    /// By the inode of the network namespace.
    seen: HashMap<u64, (Instant, Deciding)>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

static GUARD: OnceLock<Result<Mutex<Guard>, String>> = OnceLock::new();

/// Who decides about the groups of the network namespace, as of a moment ago. The first look takes
/// some 100 ms.
///
/// # Errors
///
/// What this kernel lacks: iterators over sockets (5.10 with BTF).
pub fn deciding(netns: &Netns) -> Result<Deciding, String> {
    look(netns, FRESH)
}

/// The same, as of now.
///
/// # Errors
///
/// As [`deciding`].
pub fn deciding_now(netns: &Netns) -> Result<Deciding, String> {
    look(netns, Duration::ZERO)
}

fn look(netns: &Netns, fresh: Duration) -> Result<Deciding, String> {
    let inode = netns.inode().map_err(|error| error.to_string())?;
    let guard = GUARD.get_or_init(|| Guard::load().map(Mutex::new).map_err(|e| e.to_string()));
    let mut guard = guard
        .as_ref()
        .map_err(Clone::clone)?
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some((at, seen)) = guard.seen.get(&inode)
        && at.elapsed() < fresh
    {
        return Ok(seen.clone());
    }
    // An iterator goes through the sockets of the namespace of whoever reads it.
    let guard = &mut *guard;
    let seen = netns
        .inside(|| guard.look().map_err(|error| error.to_string()))
        .map_err(|error| error.to_string())??;
    // Those of services that are gone.
    guard.seen.retain(|_, (at, _)| at.elapsed() < KNOWN);
    guard.seen.insert(inode, (clock::now(), seen.clone()));
    Ok(seen)
}

impl Guard {
    fn load() -> Result<Self, DatapathError> {
        let _after = GivesBack::at_the_end();
        let fields = kernel_fields::group_fields().map_err(DatapathError::Types)?;
        let mut loader = EbpfLoader::new();
        for (name, at) in &fields {
            loader.override_global(name, at, true);
        }
        let mut object = object::load_alone(loader)?;
        let types = Btf::from_sys_fs().map_err(|error| DatapathError::Types(error.to_string()))?;
        for (name, sockets) in names::GUARDS {
            let guard = program(&mut object, name)?;
            verified(|| guard.load(sockets, &types)).map_err(DatapathError::program(name))?;
        }
        Ok(Self {
            object,
            seen: HashMap::new(),
        })
    }

    fn look(&mut self) -> Result<Deciding, DatapathError> {
        let mut deciding = Deciding::new();
        for (name, _) in names::GUARDS {
            let program = program(&mut self.object, name)?;
            // An iterator goes through the sockets once.
            let mut sockets = program
                .attach()
                .and_then(|id| program.take_link(id))
                .map_err(DatapathError::program(name))?
                .into_file()
                .map_err(|error| DatapathError::Program {
                    name,
                    reason: error.to_string(),
                })?;
            let records =
                read_all(&mut sockets).map_err(DatapathError::system("go through the sockets"))?;
            deciding.extend(parse(&records));
        }
        Ok(deciding)
    }
}

fn program<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Iter, DatapathError> {
    object
        .program_mut(name)
        .ok_or(DatapathError::Missing(name))?
        .try_into()
        .map_err(DatapathError::program(name))
}

/// All the program writes. It ends the reading itself (EAGAIN) behind the last listener.
fn read_all(sockets: &mut std::fs::File) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut part = vec![0; 32 * 1024];
    loop {
        match sockets.read(&mut part) {
            Ok(0) => return Ok(all),
            Ok(length) => all.extend_from_slice(part.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn parse(records: &[u8]) -> impl Iterator<Item = (u64, u32)> {
    let word = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
    records
        .chunks_exact(names::GUARD_WORDS * 8)
        .filter_map(move |record| {
            let cookie = word(record)?;
            let program = word(record.get(8..)?)?;
            Some((cookie, u32::try_from(program).unwrap_or(u32::MAX)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_record_says_nothing() {
        let mut records = Vec::new();
        for word in [7_u64, 3, 9, 0, 5] {
            records.extend(word.to_ne_bytes());
        }
        let parsed: Vec<_> = parse(&records).collect();
        assert_eq!(parsed, [(7, 3), (9, 0)]);
    }
}
