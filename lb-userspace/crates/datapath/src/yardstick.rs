//! What the programs cost, for `cargo xtask bench`: the kernel's own count of runs and time.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::MapData,
    programs::{ProgramError, SkReuseport, loaded_programs, sk_reuseport::SkReuseportAttachType},
    sys::{Stats, enable_stats},
};
use lb_common::names;

use super::{Pins, error::DatapathError, object, verified::verified};

/// How often a program ran and how long that took, since it was loaded; counted only while
/// [`Statistics`] are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Runs.
    pub count: u64,
    /// Nanoseconds, the statistics' own share (about 20 a run) included.
    pub nanoseconds: u64,
}

impl Runs {
    /// Nanoseconds a run since `earlier`; `None` if there was no run.
    pub fn each_since(self, earlier: Self) -> Option<f64> {
        let runs = self.count.checked_sub(earlier.count)?;
        let nanoseconds = self.nanoseconds.checked_sub(earlier.nanoseconds)?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let each = nanoseconds as f64 / runs as f64;
        (runs > 0).then_some(each)
    }
}

/// The kernel's statistics of programs, on while this lives (kernel 5.8+).
#[derive(Debug)]
pub struct Statistics(#[expect(dead_code, reason = "open is what counts")] OwnedFd);

impl Statistics {
    /// Switches them on.
    ///
    /// # Errors
    ///
    /// EPERM without `CAP_SYS_ADMIN`.
    pub fn on() -> Result<Self, DatapathError> {
        enable_stats(Stats::RunTime)
            .map(Self)
            .map_err(|error| DatapathError::system("switch statistics on")(error.io_error))
    }
}

/// The runs of a service's `steer` in the group at `address`.
pub fn steer(bpffs: &Path, service: &str, address: SocketAddr) -> Result<Runs, DatapathError> {
    let pin = Pins::new(bpffs, service).group(address).join(names::STEER);
    SkReuseport::from_pin(pin, SkReuseportAttachType::SelectOrMigrate)
        .and_then(|program| runs(&program))
        .map_err(DatapathError::program(names::STEER))
}

/// The runs of a service's `steer_udp` in the group at `address`.
pub fn steer_udp(bpffs: &Path, service: &str, address: SocketAddr) -> Result<Runs, DatapathError> {
    let group = Pins::new(bpffs, service).datagram_group(address);
    SkReuseport::from_pin(
        group.join(names::STEER_UDP),
        SkReuseportAttachType::SelectOrMigrate,
    )
    .and_then(|program| runs(&program))
    .map_err(DatapathError::program(names::STEER_UDP))
}

/// The runs of all programs that are loaded on the host, hotlb's or not.
///
/// # Errors
///
/// When the kernel does not list them.
pub fn all_programs() -> Result<Runs, DatapathError> {
    let mut sum = Runs::default();
    for program in loaded_programs() {
        // One may go while they are counted.
        let Ok(fd) = program.and_then(|program| program.fd()) else {
            continue;
        };
        let one = runs_of(fd.as_fd()).map_err(DatapathError::system("count runs"))?;
        sum.count += one.count;
        sum.nanoseconds += one.nanoseconds;
    }
    Ok(sum)
}

/// Bytes that the kernel accounts to the maps of a service, by name.
///
/// # Errors
///
/// When its pins cannot be opened.
pub fn map_memory(bpffs: &Path, service: &str) -> Result<BTreeMap<String, u64>, DatapathError> {
    let pins = Pins::new(bpffs, service);
    let groups = pins.dir().join("groups");
    let mut places = vec![pins.dir().join("maps")];
    for group in entries(&groups)? {
        places.push(group);
    }
    let mut memory = BTreeMap::new();
    for place in places {
        for pin in entries(&place)? {
            let name = pin.file_name().unwrap_or_default().to_string_lossy();
            if name == names::STEER {
                continue;
            }
            let map =
                MapData::from_pin(&pin).map_err(DatapathError::map("a map of the service"))?;
            let bytes = field(map.fd().as_fd(), "memlock");
            *memory.entry(name.into_owned()).or_default() +=
                bytes.map_err(DatapathError::system("ask for a map's memory"))?;
        }
    }
    Ok(memory)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, DatapathError> {
    let listed = fs::read_dir(dir).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    });
    listed.map_err(DatapathError::system("list pins"))
}

/// A program that does nothing, attached to a reuseport group; gone with the value and the group.
#[derive(Debug)]
pub struct Noop {
    object: Ebpf,
}

impl Noop {
    /// Loads it and attaches it to the group `socket` is in.
    pub fn attach(socket: impl AsFd) -> Result<Self, DatapathError> {
        let mut object = object::load_unpinned()?;
        let noop: &mut SkReuseport = object
            .program_mut(names::NOOP)
            .ok_or(DatapathError::Missing(names::NOOP))?
            .try_into()
            .map_err(DatapathError::program(names::NOOP))?;
        verified(|| noop.load()).map_err(DatapathError::program(names::NOOP))?;
        noop.attach(socket.as_fd())
            .map_err(DatapathError::program(names::NOOP))?;
        Ok(Self { object })
    }

    /// Its runs.
    pub fn runs(&self) -> Result<Runs, DatapathError> {
        let noop: &SkReuseport = self
            .object
            .program(names::NOOP)
            .ok_or(DatapathError::Missing(names::NOOP))?
            .try_into()
            .map_err(DatapathError::program(names::NOOP))?;
        runs(noop).map_err(DatapathError::program(names::NOOP))
    }
}

/// What the kernel says about the program's descriptor; aya has no function for these two.
fn runs(program: &SkReuseport) -> Result<Runs, ProgramError> {
    Ok(runs_of(program.fd()?.as_fd())?)
}

fn runs_of(fd: BorrowedFd<'_>) -> io::Result<Runs> {
    Ok(Runs {
        count: field(fd, "run_cnt")?,
        nanoseconds: field(fd, "run_time_ns")?,
    })
}

fn field(fd: BorrowedFd<'_>, name: &str) -> io::Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    let found = fields.find(|(key, _)| *key == name);
    Ok(found
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or_default())
}
