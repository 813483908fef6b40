//! What the programs cost, for `cargo xtask bench`: the kernel's own count of runs and time.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf,
    programs::{ProgramError, SkReuseport, sk_reuseport::SkReuseportAttachType},
    sys::{Stats, enable_stats},
};
use lb_common::names;

use super::{Pins, error::DatapathError, object};

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
        noop.load().map_err(DatapathError::program(names::NOOP))?;
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
    let fd = program.fd()?.as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let field = |name: &str| {
        info.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or_default()
    };
    Ok(Runs {
        count: field("run_cnt"),
        nanoseconds: field("run_time_ns"),
    })
}
