//! Where the architecture's `struct pt_regs` has what programs read of an interrupted task.

use lb_common::names;

/// The instruction, stack and frame pointer and the link register, by the names of
/// [`names::REGISTERS`].
pub(super) fn registers() -> [(&'static str, u32); 4] {
    #[cfg(target_arch = "x86_64")]
    let at = [128, 152, 32, names::NO_REGISTER];
    #[cfg(target_arch = "aarch64")]
    let at = [256, 248, 232, 240];
    let [ip, sp, fp, lr] = names::REGISTERS;
    let [ip_at, sp_at, fp_at, lr_at] = at;
    [(ip, ip_at), (sp, sp_at), (fp, fp_at), (lr, lr_at)]
}

/// By the names of [`names::MODE`]: the code segment of 64-bit programs, of Xen's too; on aarch64
/// exception level 0 and its instruction set.
pub(super) fn mode() -> [(&'static str, u32); 3] {
    #[cfg(target_arch = "x86_64")]
    let values = [136, 0xff, 0x33];
    #[cfg(target_arch = "aarch64")]
    let values = [264, 0x1f, 0];
    let [at, mask, user] = names::MODE;
    let [at_is, mask_is, user_is] = values;
    [(at, at_is), (mask, mask_is), (user, user_is)]
}
