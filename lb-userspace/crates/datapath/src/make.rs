//! How a service's part of the kernel is made: programs loaded and attached, everything pinned.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    pin::PinError,
    programs::{
        CgroupAttachMode, CgroupSockAddr, CgroupSockopt, ProgramError, ProgramFd, SkReuseport,
        SockOps,
        links::{FdLink, LinkError},
    },
    sys::SyscallError,
};
use hotlb_sys::{
    bpf,
    bpf_link::{self, Seen},
};
use lb_common::{ABI_VERSION, GenerationId, names, steering};

use super::{
    declared::Declared,
    error::DatapathError,
    loaders::Constants,
    object,
    pins::{Pins, replace, unpin},
    service::steering_row,
    verified::verified,
};

/// The cgroup of a service's keeper, below the service's.
pub const PARKING: &str = "parking";

/// Loads every program, pins everything below `staging`.
pub(super) fn create(
    staging: &Pins,
    cgroup: &Path,
    declared: &Declared,
) -> Result<(), DatapathError> {
    programs(staging, cgroup, declared)?;
    let row = steering_row(staging)?;
    row.store(steering::ABI, u64::from(ABI_VERSION));
    row.store(steering::OBJECT, object::digest());
    row.store(steering::SALT, salt());
    Ok(())
}

/// Programs of the service's cgroup that were loaded, by name.
pub(super) type OfService = Vec<(&'static str, ProgramFd)>;

/// Loads the programs of the service and of its groups, makes the maps that are missing, attaches and
/// pins. Where there is a pin already, the present program takes the place of the one that is there.
pub(super) fn programs(
    pins: &Pins,
    cgroup: &Path,
    declared: &Declared,
) -> Result<OfService, DatapathError> {
    let parking = cgroup.join(PARKING);
    let cgroup = open(cgroup)?;
    let parking = open(&parking)?;
    let tcp = declared.addresses.iter();
    let tcp = tcp.map(|&address| (pins.group(address), names::STEER));
    let datagrams = declared.datagrams.as_ref();
    let udp = datagrams.map_or(&[][..], |datagrams| &datagrams.addresses);
    let udp = udp.iter();
    let udp = udp.map(|&address| (pins.datagram_group(address), names::STEER_UDP));
    let mut of_service = OfService::new();
    for (index, (group, steering)) in tcp.chain(udp).enumerate() {
        std::fs::create_dir_all(&group)
            .map_err(DatapathError::system("make the group's pin directory"))?;
        let constants = if index == 0 {
            sizes(declared)
        } else {
            Constants::default()
        };
        let mut object = object::load(pins, &group, constants)?;
        let steer: &mut SkReuseport = program(&mut object, steering)?;
        verified(|| steer.load()).map_err(DatapathError::program(steering))?;
        replace(&group.join(steering), |pin| steer.pin(pin))?;
        if index == 0 {
            for (name, seen) in [(names::JOIN4, Seen::Bind4), (names::JOIN6, Seen::Bind6)] {
                let loaded = loaded(program(&mut object, name)?, name)?;
                watch(&loaded, (name, seen), &cgroup, pins)?;
                of_service.push((name, loaded));
            }
            match options(&mut object, &cgroup, pins) {
                Ok(loaded) => of_service.push((names::OPTIONS, loaded)),
                // What it refuses is found a second later.
                Err(error) => tracing::warn!(
                    %error,
                    "failed to have the options of sockets looked at"
                ),
            }
            track(&mut object, Some(&parking), pins, None)?;
        }
    }
    Ok(of_service)
}

/// Has the present `track` count for whom one counts already.
pub(super) fn count_anew(
    pins: &Pins,
    group: &Path,
    generation: GenerationId,
) -> Result<(), DatapathError> {
    let mut object = object::load(pins, group, counting_for(generation))?;
    track(&mut object, None, pins, Some(generation))
}

/// Loads a program that sees binds.
pub(super) fn loaded(
    program: &mut CgroupSockAddr,
    name: &'static str,
) -> Result<ProgramFd, DatapathError> {
    verified(|| program.load()).map_err(DatapathError::program(name))?;
    kept(program.fd(), name)
}

/// Keeps the service's sockets in its groups.
fn options(object: &mut Ebpf, cgroup: &File, pins: &Pins) -> Result<ProgramFd, DatapathError> {
    let options: &mut CgroupSockopt = program(object, names::OPTIONS)?;
    verified(|| options.load()).map_err(DatapathError::program(names::OPTIONS))?;
    let loaded = kept(options.fd(), names::OPTIONS)?;
    watch(&loaded, (names::OPTIONS, Seen::SetOption), cgroup, pins)?;
    Ok(loaded)
}

/// Pins a program, and has it see what the processes of a cgroup do.
pub(super) fn watch(
    program: &ProgramFd,
    (name, seen): (&'static str, Seen),
    cgroup: &File,
    pins: &Pins,
) -> Result<(), DatapathError> {
    replace(&pins.link(name), |pin| {
        let pinned = bpf::pin(program.as_fd(), pin);
        pinned.map_err(|io_error| {
            let call = "BPF_OBJ_PIN";
            PinError::SyscallError(SyscallError { call, io_error })
        })
    })?;
    let link = pins.link(&format!("{name}-link"));
    if leads_to(&link, program)? {
        return Ok(());
    }
    attach((program.as_fd(), name, seen), cgroup, &link)
}

fn kept(
    program: Result<&ProgramFd, ProgramError>,
    name: &'static str,
) -> Result<ProgramFd, DatapathError> {
    let cloned = program.map_err(DatapathError::program(name))?.try_clone();
    cloned.map_err(DatapathError::system("keep a program"))
}

/// Has the pinned link run the program from here on. False if there is none, or what it was attached
/// to is gone: it is given up then.
pub(super) fn leads_to(pin: &Path, program: &ProgramFd) -> Result<bool, DatapathError> {
    let link = match bpf::pinned(pin) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(DatapathError::system("open a link")(error)),
    };
    match bpf_link::update_link(link.as_fd(), program.as_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {
            unpin(pin);
            Ok(false)
        }
        updated => updated
            .map(|()| true)
            .map_err(DatapathError::system("replace the program of a link")),
    }
}

/// The programs that see what the processes of a service's cgroups do.
pub(super) const OF_CGROUPS: [(&str, Seen); 3] = [
    (names::JOIN4, Seen::Bind4),
    (names::JOIN6, Seen::Bind6),
    (names::OPTIONS, Seen::SetOption),
];

/// Has the service's programs see what the processes of `cgroup` do, too, which lies outside the service's. One that
/// does already is left alone, and so is one that a former agent did not have.
pub(super) fn join_outside(
    pins: &Pins,
    cgroup: &Path,
    generation: GenerationId,
) -> Result<(), DatapathError> {
    let cgroup = open(cgroup)?;
    for (name, seen) in OF_CGROUPS {
        let (program, link) = (pins.link(name), pins.joined(name, generation));
        if link.exists() || !program.exists() {
            continue;
        }
        let program = bpf::pinned(&program).map_err(DatapathError::system("open a program"))?;
        attach((program.as_fd(), name, seen), &cgroup, &link)?;
    }
    Ok(())
}

fn attach(
    (program, name, seen): (BorrowedFd<'_>, &'static str, Seen),
    cgroup: &File,
    pin: &Path,
) -> Result<(), DatapathError> {
    let attached = bpf_link::link_to_cgroup(program, cgroup.as_fd(), seen);
    let link = attached.map_err(|error| DatapathError::Program {
        name,
        reason: format!("cannot attach it to a cgroup: {error}"),
    })?;
    bpf::pin(link.as_fd(), pin).map_err(DatapathError::system("pin a link"))
}

/// Has the connections of `cgroup` counted for `generation`, from the next one on.
pub(super) fn count(
    pins: &Pins,
    group: &Path,
    cgroup: &Path,
    generation: GenerationId,
) -> Result<(), DatapathError> {
    let mut object = object::load(pins, group, counting_for(generation))?;
    track(&mut object, Some(&open(cgroup)?), pins, Some(generation))
}

/// How large the service's maps are made.
pub(super) fn sizes(declared: &Declared) -> Constants {
    Constants {
        flows: declared.flows(),
        connection_ids: declared.connection_ids(),
        ..Constants::default()
    }
}

fn counting_for(generation: GenerationId) -> Constants {
    Constants {
        generation: generation.raw(),
        ..Constants::default()
    }
}

/// Without a cgroup, only where one counts already.
fn track(
    object: &mut Ebpf,
    cgroup: Option<&File>,
    pins: &Pins,
    generation: Option<GenerationId>,
) -> Result<(), DatapathError> {
    let track: &mut SockOps = program(object, names::TRACK)?;
    verified(|| track.load()).map_err(DatapathError::program(names::TRACK))?;
    let pin = pins.track(generation);
    let counts = leads_to(&pin, &kept(track.fd(), names::TRACK)?)?;
    let Some(cgroup) = cgroup.filter(|_| !counts) else {
        return Ok(());
    };
    let link = track
        .attach(cgroup, CgroupAttachMode::Single)
        .and_then(|id| track.take_link(id))
        .map_err(DatapathError::program(names::TRACK))?;
    pin_link(FdLink::try_from(link), names::TRACK, pin)
}

fn open(cgroup: &Path) -> Result<File, DatapathError> {
    File::open(cgroup).map_err(DatapathError::system("open a cgroup"))
}

fn pin_link(
    link: Result<FdLink, LinkError>,
    name: &'static str,
    path: PathBuf,
) -> Result<(), DatapathError> {
    let link = link.map_err(|error| DatapathError::Program {
        name,
        reason: error.to_string(),
    })?;
    link.pin(&path).map_err(DatapathError::pin(path))?;
    Ok(())
}

pub(super) fn program<'a, T>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut T, DatapathError>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    object
        .program_mut(name)
        .ok_or(DatapathError::Missing(name))?
        .try_into()
        .map_err(DatapathError::program(name))
}

/// Unlike on each host and for each service, so that shares do not fall on the same clients.
fn salt() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}
