//! Reading a whole hash map in few calls: `BPF_MAP_LOOKUP_BATCH` (kernel 5.6+), for which aya has
//! no function.

use std::{io, os::fd::BorrowedFd, ptr};

use super::bpf_raw::{Command, address, call, number};

/// Entries asked for at once, unless one bucket has more.
const AT_ONCE: usize = 4096;

/// The part of `union bpf_attr` that batch calls read (uapi/linux/bpf.h).
#[repr(C)]
struct BatchAttr {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// Hands every entry to `each`. Entries that come or go meanwhile are seen or not.
///
/// # Errors
///
/// EINVAL: the kernel is older than 5.6, or the map is no hash.
pub fn entries<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    mut each: impl FnMut(&[u32; K], &[u64; V]),
) -> io::Result<()> {
    let mut room = AT_ONCE;
    let mut keys = vec![[0_u32; K]; room];
    let mut values = vec![[0_u64; V]; room];
    let mut place: Option<u32> = None;
    loop {
        let mut next = 0_u32;
        let asked = batch(map, place.as_ref(), &mut next, &mut keys, &mut values);
        let (count, over) = match asked {
            Ok(count) => (count, false),
            Err((error, count)) => match error.raw_os_error() {
                Some(libc::ENOENT) => (count, true),
                // A bucket with more entries than there is room for.
                Some(libc::ENOSPC) => {
                    room *= 2;
                    keys.resize(room, [0; K]);
                    values.resize(room, [0; V]);
                    continue;
                }
                Some(libc::EINTR) => continue,
                _ => return Err(error),
            },
        };
        for (key, value) in keys.iter().zip(&values).take(count) {
            each(key, value);
        }
        if over {
            return Ok(());
        }
        place = Some(next);
    }
}

/// One call: as many entries as fit, and where the next call goes on. How many were read is known
/// for an error too.
#[expect(unsafe_code, reason = "aya has no batch calls")]
fn batch<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    place: Option<&u32>,
    next: &mut u32,
    keys: &mut [[u32; K]],
    values: &mut [[u64; V]],
) -> Result<usize, (io::Error, usize)> {
    let room = keys.len().min(values.len());
    let mut attr = BatchAttr {
        from: address(place.map_or(ptr::null(), ptr::from_ref)),
        to: address(ptr::from_mut(next)),
        keys: address(keys.as_mut_ptr()),
        values: address(values.as_mut_ptr()),
        count: u32::try_from(room).unwrap_or(u32::MAX),
        map_fd: number(map).map_err(|error| (error, 0))?,
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the attribute is what the call reads, and all it points to lives until the call returns. A position has
    // four bytes for a hash; keys and values have room for as many as are asked for, each of the size the map was made
    // with, which is the caller's to say.
    let asked = unsafe { call(Command::LookUpBatch, &mut attr) };
    let count = (attr.count as usize).min(room);
    asked.map(|_| count).map_err(|error| (error, count))
}
