//! Copying a map into another one whose values may be longer: aya's types know the size of a value
//! when they are compiled.

use std::{io, os::fd::BorrowedFd, ptr};

use super::bpf_raw::{self, Command, ElementAttr};

/// How large keys and values of a map are, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// A key.
    pub key: usize,
    /// A value, on each of `cpus`.
    pub value: usize,
    /// How many values there are for a key.
    pub cpus: usize,
}

impl Sizes {
    /// The kernel hands out values by CPU in steps of eight bytes.
    const fn step(self) -> usize {
        self.value.next_multiple_of(8)
    }

    const fn all(self) -> usize {
        if self.cpus == 1 {
            self.value
        } else {
            self.step() * self.cpus
        }
    }
}

/// Copies every entry of `from`, an array or a hash, to `to`. A value that is shorter there is cut
/// off; of a longer one the rest is zero. Keys that `to` does not have are left out.
///
/// # Errors
///
/// When a call is refused; `to` may have a part then. EINVAL: their keys are of unlike sizes.
pub fn entries(
    (from, from_sizes): (BorrowedFd<'_>, Sizes),
    (to, to_sizes): (BorrowedFd<'_>, Sizes),
) -> io::Result<()> {
    if from_sizes.key != to_sizes.key || from_sizes.cpus != to_sizes.cpus {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut key: Option<Vec<u8>> = None;
    let mut value = vec![0; from_sizes.all()];
    while let Some(next) = next_key(from, key.as_deref(), from_sizes.key)? {
        match element(Command::LookUp, from, &next, &mut value) {
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            looked => {
                looked?;
                let mut longer = fitted(&value, from_sizes, to_sizes);
                match element(Command::Update, to, &next, &mut longer) {
                    Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {}
                    put => put?,
                }
            }
        }
        key = Some(next);
    }
    Ok(())
}

/// The values as a map of other sizes has them.
fn fitted(value: &[u8], from: Sizes, to: Sizes) -> Vec<u8> {
    let mut fitted = vec![0; to.all()];
    let length = from.value.min(to.value);
    let (from_step, to_step) = if from.cpus == 1 {
        (from.value, to.value)
    } else {
        (from.step(), to.step())
    };
    let pairs = value.chunks(from_step).zip(fitted.chunks_mut(to_step));
    for (from, to) in pairs {
        for (to, from) in to.iter_mut().zip(from).take(length) {
            *to = *from;
        }
    }
    fitted
}

fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, size: usize) -> io::Result<Option<Vec<u8>>> {
    let mut next = vec![0; size];
    let asked = call(Command::NextKey, map, key, &mut next);
    match asked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        asked => asked.map(|()| Some(next)),
    }
}

fn element(command: Command, map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    call(command, map, Some(key), value)
}

#[expect(unsafe_code, reason = "aya wants the types of keys and values")]
fn call(
    command: Command,
    map: BorrowedFd<'_>,
    key: Option<&[u8]>,
    value: &mut [u8],
) -> io::Result<()> {
    let key = key.map_or(ptr::null(), <[u8]>::as_ptr);
    let mut attr = ElementAttr::new(map, key, value.as_mut_ptr(), 0)?;
    // SAFETY: the attribute is what the calls read; key and value live until the call returns and have the sizes the
    // map was made with, which are the caller's to say: `Sizes`.
    unsafe { bpf_raw::call(command, &mut attr) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(value: usize, cpus: usize) -> Sizes {
        Sizes {
            key: 4,
            value,
            cpus,
        }
    }

    #[test]
    fn longer_values_end_with_zeros_and_shorter_ones_are_cut_off() {
        let value: Vec<u8> = (1..=16).collect();
        assert_eq!(fitted(&value, sizes(16, 1), sizes(4, 1)), [1, 2, 3, 4]);
        let longer = fitted(&value, sizes(16, 1), sizes(24, 1));
        assert_eq!(longer[..16], value[..]);
        assert_eq!(longer[16..], [0; 8]);
    }

    #[test]
    fn each_cpu_keeps_its_own() {
        let value: Vec<u8> = (1..=16).collect();
        let longer = fitted(&value, sizes(8, 2), sizes(12, 2));
        assert_eq!(longer[..8], value[..8]);
        assert_eq!(longer[8..16], [0; 8]);
        assert_eq!(longer[16..24], value[8..]);
        assert_eq!(longer[24..], [0; 8]);
    }
}
