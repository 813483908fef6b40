//! `noop`: the yardstick `cargo xtask bench` measures `steer` against. The agent never loads it.

use aya_ebpf::{bindings::sk_action::SK_PASS, macros::sk_reuseport, programs::SkReuseportContext};

#[sk_reuseport(migrate)]
pub fn noop(_ctx: SkReuseportContext) -> u32 {
    SK_PASS
}
