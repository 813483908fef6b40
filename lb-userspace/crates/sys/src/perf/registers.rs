//! The registers that unwinding needs, by architecture (`asm/perf_regs.h`).

/// Registers of the user side at the moment of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRegisters {
    /// The instruction pointer.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer.
    pub fp: u64,
    /// The link register; 0 where there is none.
    pub lr: u64,
}

#[cfg(target_arch = "x86_64")]
mod numbers {
    pub(super) const FP: u32 = 6;
    pub(super) const SP: u32 = 7;
    pub(super) const IP: u32 = 8;
    pub(super) const LR: Option<u32> = None;
}

#[cfg(target_arch = "aarch64")]
mod numbers {
    pub(super) const FP: u32 = 29;
    pub(super) const LR: Option<u32> = Some(30);
    pub(super) const SP: u32 = 31;
    pub(super) const IP: u32 = 32;
}

impl UserRegisters {
    /// The bit mask the kernel is asked with.
    pub(super) fn mask() -> u64 {
        let lr = numbers::LR.map_or(0, |lr| 1 << lr);
        1 << numbers::FP | 1 << numbers::SP | 1 << numbers::IP | lr
    }

    /// Reads what the kernel sent: the values of the mask's bits, lowest bit first.
    pub(super) fn read(values: &[u64]) -> Option<Self> {
        let value = |number: u32| {
            let below = Self::mask() & ((1 << number) - 1);
            let place = usize::try_from(below.count_ones()).ok()?;
            values.get(place).copied()
        };
        Some(Self {
            ip: value(numbers::IP)?,
            sp: value(numbers::SP)?,
            fp: value(numbers::FP)?,
            lr: numbers::LR.map_or(Some(0), value)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn values_come_lowest_bit_first() {
        let read = UserRegisters::read(&[1, 2, 3]).unwrap();
        assert_eq!((read.fp, read.sp, read.ip), (1, 2, 3));
        assert_eq!(UserRegisters::read(&[1, 2]), None);
    }
}
