//! Network devices.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_indextoname, if_nametoindex},
};

use super::{netns::Netns, reader::printable};

/// A device, for as long as it has both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// The devices of this thread's network namespace that are up: no other sends anything.
///
/// # Errors
///
/// When the kernel does not list them.
pub fn that_send() -> io::Result<BTreeSet<Device>> {
    let up = getifaddrs()?.filter(|address| address.flags.contains(InterfaceFlags::IFF_UP));
    let names: BTreeSet<String> = up.map(|address| address.interface_name).collect();
    // An address may have a label of its own (`eth0:1`), which is the same device by another name.
    let mut devices = BTreeMap::new();
    for name in names {
        // Gone or called otherwise meanwhile.
        if let Ok(index) = if_nametoindex(name.as_str()) {
            devices.entry(index).or_insert(name);
        }
    }
    let devices = devices.into_iter();
    Ok(devices
        .map(|(index, name)| Device { index, name })
        .collect())
}

/// The name of a device of a network namespace; its number where it has none any more.
pub fn name_of(netns: &Netns, index: u32) -> String {
    let name = netns.inside(|| if_indextoname(index));
    match name {
        // nix says an empty name where there is no device.
        Ok(Ok(name)) if !name.is_empty() => printable(&name.to_string_lossy()),
        _ => format!("number {index}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_listed_once() {
        let found = that_send().unwrap();
        let numbers: BTreeSet<u32> = found.iter().map(|device| device.index).collect();
        assert_eq!(numbers.len(), found.len());
    }

    #[test]
    fn a_device_is_named() {
        let netns = Netns::own();
        let loopback = if_nametoindex("lo").unwrap();
        assert_eq!(name_of(&netns, loopback), "lo");
        assert_eq!(name_of(&netns, u32::MAX), format!("number {}", u32::MAX));
    }
}
