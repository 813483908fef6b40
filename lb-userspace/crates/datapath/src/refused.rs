//! Counting the clients that the kernel refuses.

use std::io;

use aya::programs::{RawTracePoint, links::FdLink};
use hotlb_sys::netns::Netns;
use lb_common::names;

use super::{
    DatapathError, kernel_fields,
    loaders::Constants,
    object,
    pins::{Pins, replace, unpin},
    verified::verified,
};

/// Counts from now on those whose SYN is answered by a reset, if that is not done already, or is to be
/// done `anew` by the present program; it goes on when the agent has ended.
///
/// # Errors
///
/// When the kernel does not say why it drops packets (before 5.17), or does not describe its types.
pub(super) fn count(pins: &Pins, netns: &Netns, anew: bool) -> Result<(), DatapathError> {
    let pin = pins.link(names::REFUSED);
    if pin.exists() && !anew {
        return Ok(());
    }
    let counted = attach(pins, netns).and_then(|link| replace(&pin, |pin| link.pin(pin)));
    if counted.is_err() {
        unpin(&pin);
    }
    counted
}

fn attach(pins: &Pins, netns: &Netns) -> Result<FdLink, DatapathError> {
    let group = pins
        .first_group()
        .ok_or(DatapathError::Missing("a group's pins"))?;
    let namespace = inode(netns).map_err(DatapathError::system("find the network namespace"))?;
    let fields =
        kernel_fields::packet_fields().map_err(|why| DatapathError::Types(why.to_owned()))?;
    let constants = Constants {
        namespace,
        ..Constants::default()
    };
    let mut object = object::load(pins, &group, constants)?;
    let program: &mut RawTracePoint = object
        .program_mut(names::REFUSED)
        .ok_or(DatapathError::Missing(names::REFUSED))?
        .try_into()
        .map_err(DatapathError::program(names::REFUSED))?;
    let link = verified(|| program.load())
        .and_then(|()| {
            program.attach(if fields.at_resets {
                names::RESETS
            } else {
                names::DROPS
            })
        })
        .and_then(|id| program.take_link(id))
        .map_err(DatapathError::program(names::REFUSED))?;
    Ok(link.into())
}

/// As wide as the kernel has it.
fn inode(netns: &Netns) -> io::Result<u32> {
    u32::try_from(netns.inode()?).map_err(io::Error::other)
}
