//! From registers and a piece of the stack to the addresses of all callers.

use framehop::{CacheNative, UnwindRegsNative, Unwinder as _};
use hotlb_datapath::Alike;
use hotlb_sys::perf::{UserRegisters, UserStack};

use super::{Unwind, space::Space, stacks::Address};

/// Frames of a stack; what has more calls itself without end.
const DEEPEST: usize = 512;

/// Marks in a call chain of the kernel (`enum perf_callchain_context`): what follows is of the
/// kernel, of the user side, or of neither. Every value from the last on is a mark.
const CONTEXT_KERNEL: u64 = (-128_i64).cast_unsigned();
const CONTEXT_USER: u64 = (-512_i64).cast_unsigned();
const CONTEXT_MAX: u64 = (-4095_i64).cast_unsigned();

/// Unwinds stacks; remembers by which rule each address was left.
pub(super) struct StackUnwinder {
    mode: Unwind,
    cache: CacheNative<framehop::MayAllocateDuringUnwind>,
}

impl StackUnwinder {
    /// One that finds callers in this way.
    pub(super) fn new(mode: Unwind) -> Self {
        Self {
            mode,
            cache: CacheNative::new(),
        }
    }

    /// The user side of a stack, innermost first.
    pub(super) fn user(
        &mut self,
        space: &Space,
        pid: u32,
        user: &UserStack<'_>,
        frames: &mut Vec<Address>,
    ) {
        let registers = user.registers;
        let mut read = |address: u64| word(registers.sp, user.bytes, address).ok_or(());
        let unwinder = space.unwinder();
        let mut callers =
            unwinder.iter_frames(registers.ip, native(registers), &mut self.cache, &mut read);
        let mut has_tables = true;
        while frames.len() < DEEPEST {
            let Ok(next) = callers.next() else { break };
            let Some(frame) = next else { return };
            let address = frame.address_for_lookup();
            // Without tables the callers are a guess, which `dwarf` does not want; where nothing
            // is mapped stands no return address, so that the guess was wrong.
            let is_guess = self.mode == Unwind::Dwarf && !has_tables;
            if frame.is_return_address() && (is_guess || !space.knows(address)) {
                break;
            }
            frames.push(space.address(pid, address));
            has_tables = space.has_tables(address);
        }
        frames.push(Address::Truncated);
    }
}

/// A call chain of the kernel's, innermost first.
pub(super) fn chain(space: Option<(&Space, u32)>, chain: &[u64], frames: &mut Vec<Address>) {
    let mut in_kernel = true;
    let mut is_leaf = true;
    for &entry in chain {
        if entry >= CONTEXT_MAX {
            in_kernel = entry == CONTEXT_KERNEL;
            is_leaf = true;
            if entry != CONTEXT_KERNEL && entry != CONTEXT_USER {
                // Guests, hypervisors: not of this host.
                is_leaf = false;
            }
            continue;
        }
        // A return address may be the first of the next function; the call is before it.
        let address = if is_leaf {
            entry
        } else {
            entry.saturating_sub(1)
        };
        is_leaf = false;
        match (in_kernel, space) {
            (true, _) => frames.push(Address::Kernel(address)),
            (false, Some((space, pid))) => frames.push(space.address(pid, address)),
            (false, None) => {}
        }
    }
}

/// A stack that was counted in the kernel, innermost first.
pub(super) fn counted((space, pid): (&Space, u32), alike: &Alike<'_>, frames: &mut Vec<Address>) {
    let kernel = alike.kernel.iter().enumerate();
    frames.extend(kernel.map(|(place, &entry)| Address::Kernel(caller(place, entry))));
    for (place, &entry) in alike.user.iter().enumerate() {
        let address = caller(place, entry);
        // Where nothing is mapped stands no return address: it was no frame pointer.
        if place > 0 && !space.knows(address) {
            frames.push(Address::Truncated);
            return;
        }
        frames.push(space.address(pid, address));
    }
    if alike.goes_on {
        frames.push(Address::Truncated);
    }
}

/// A return address may be the first of the next function; the call is before it.
fn caller(place: usize, entry: u64) -> u64 {
    entry.saturating_sub(u64::from(place > 0))
}

/// The word at `address`, if it is within what was copied of the stack.
fn word(sp: u64, bytes: &[u8], address: u64) -> Option<u64> {
    let start = usize::try_from(address.checked_sub(sp)?).ok()?;
    let word = bytes.get(start..start.checked_add(8)?)?;
    Some(u64::from_ne_bytes(word.try_into().ok()?))
}

#[cfg(target_arch = "x86_64")]
fn native(registers: UserRegisters) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.ip, registers.sp, registers.fp)
}

#[cfg(target_arch = "aarch64")]
fn native(registers: UserRegisters) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.lr, registers.sp, registers.fp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lie_within_the_copy() {
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(word(0x1000, &bytes, 0x1008), Some(2));
        assert_eq!(word(0x1000, &bytes, 0x1009), None);
        assert_eq!(word(0x1000, &bytes, 0xfff), None);
        assert_eq!(word(0, &bytes, u64::MAX), None);
    }

    #[test]
    fn marks_part_a_chain() {
        let mut frames = Vec::new();
        chain(
            None,
            &[CONTEXT_KERNEL, 0x30, 0x20, CONTEXT_USER, 0x10],
            &mut frames,
        );
        assert_eq!(frames, [Address::Kernel(0x30), Address::Kernel(0x1f)]);
    }
}
