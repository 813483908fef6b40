//! How a service's part of the kernel is made: programs loaded and attached, everything pinned.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSockAddr, CgroupSockAddrAttachType, SkReuseport, SockOps,
        links::FdLink,
    },
};
use lb_common::{ABI_VERSION, GenerationId, names, steering};

use super::{
    declared::Declared, error::DatapathError, loaders::Constants, object, pins::Pins,
    service::steering_row, verified::verified,
};

/// The cgroup of a service's keeper, below the service's.
pub const PARKING: &str = "parking";

/// Loads every program, pins everything below `staging`.
pub(super) fn create(
    staging: &Pins,
    cgroup: &Path,
    declared: &Declared,
) -> Result<(), DatapathError> {
    let parking = cgroup.join(PARKING);
    let cgroup = open(cgroup)?;
    let parking = open(&parking)?;
    let tcp = declared.addresses.iter();
    let tcp = tcp.map(|&address| (staging.group(address), names::STEER));
    let datagrams = declared.datagrams.as_ref();
    let udp = datagrams.map_or(&[][..], |datagrams| &datagrams.addresses);
    let udp = udp.iter();
    let udp = udp.map(|&address| (staging.datagram_group(address), names::STEER_UDP));
    let made = Constants {
        flows: declared.flows(),
        connection_ids: declared.connection_ids(),
        ..Constants::default()
    };
    for (index, (group, steering)) in tcp.chain(udp).enumerate() {
        std::fs::create_dir_all(&group)
            .map_err(DatapathError::system("make the group's pin directory"))?;
        let constants = if index == 0 {
            made
        } else {
            Constants::default()
        };
        let mut object = object::load(staging, &group, constants)?;
        let steer: &mut SkReuseport = program(&mut object, steering)?;
        verified(|| steer.load()).map_err(DatapathError::program(steering))?;
        let pin = group.join(steering);
        steer.pin(&pin).map_err(DatapathError::pin(pin.clone()))?;
        if index == 0 {
            join(&mut object, names::JOIN4, &cgroup, staging)?;
            join(&mut object, names::JOIN6, &cgroup, staging)?;
            track(&mut object, &parking, staging, None)?;
        }
    }
    let row = steering_row(staging)?;
    row.store(steering::ABI, u64::from(ABI_VERSION));
    row.store(steering::SALT, salt());
    Ok(())
}

fn join(
    object: &mut Ebpf,
    name: &'static str,
    cgroup: &File,
    pins: &Pins,
) -> Result<(), DatapathError> {
    let join: &mut CgroupSockAddr = program(object, name)?;
    verified(|| join.load()).map_err(DatapathError::program(name))?;
    let program_pin = pins.link(name);
    join.pin(&program_pin)
        .map_err(DatapathError::pin(program_pin.clone()))?;
    attach_join(join, name, cgroup, pins.link(&format!("{name}-link")))
}

/// Has the service's `join` see the binds of `cgroup` too, which lies outside the service's.
pub(super) fn join_outside(
    pins: &Pins,
    cgroup: &Path,
    generation: GenerationId,
) -> Result<(), DatapathError> {
    let cgroup = open(cgroup)?;
    for (name, kind) in [
        (names::JOIN4, CgroupSockAddrAttachType::Bind4),
        (names::JOIN6, CgroupSockAddrAttachType::Bind6),
    ] {
        let mut join = CgroupSockAddr::from_pin(pins.link(name), kind)
            .map_err(DatapathError::program(name))?;
        attach_join(&mut join, name, &cgroup, pins.joined(name, generation))?;
    }
    Ok(())
}

fn attach_join(
    join: &mut CgroupSockAddr,
    name: &'static str,
    cgroup: &File,
    pin: PathBuf,
) -> Result<(), DatapathError> {
    // A link with flags 0: aya's AllowMultiple gives EINVAL, and links are multi anyway.
    let link = join
        .attach(cgroup, CgroupAttachMode::Single)
        .and_then(|id| join.take_link(id))
        .map_err(DatapathError::program(name))?;
    pin_link(FdLink::try_from(link), name, pin)
}

/// Has the connections of `cgroup` counted for `generation`, from the next one on.
pub(super) fn count(
    pins: &Pins,
    group: &Path,
    cgroup: &Path,
    generation: GenerationId,
) -> Result<(), DatapathError> {
    let constants = Constants {
        generation: generation.raw(),
        ..Constants::default()
    };
    let mut object = object::load(pins, group, constants)?;
    track(&mut object, &open(cgroup)?, pins, Some(generation))
}

fn track(
    object: &mut Ebpf,
    cgroup: &File,
    pins: &Pins,
    generation: Option<GenerationId>,
) -> Result<(), DatapathError> {
    let track: &mut SockOps = program(object, names::TRACK)?;
    verified(|| track.load()).map_err(DatapathError::program(names::TRACK))?;
    let link = track
        .attach(cgroup, CgroupAttachMode::Single)
        .and_then(|id| track.take_link(id))
        .map_err(DatapathError::program(names::TRACK))?;
    pin_link(FdLink::try_from(link), names::TRACK, pins.track(generation))
}

fn open(cgroup: &Path) -> Result<File, DatapathError> {
    File::open(cgroup).map_err(DatapathError::system("open a cgroup"))
}

fn pin_link(
    link: Result<FdLink, aya::programs::links::LinkError>,
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

fn program<'a, T>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, DatapathError>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
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
