//! What `cargo xtask vm` needs: only it, for it is large.

use super::servers::Program;

/// The emulator and what packs its first files.
pub(super) const PROGRAMS: [Program; 2] = [
    Program {
        name: "qemu-system-x86_64",
        package: Some("qemu-system-x86"),
        needed: true,
        cost: "no other kernel can be booted",
    },
    Program {
        name: "busybox",
        package: Some("busybox-static"),
        needed: true,
        cost: "no machine can be booted",
    },
];
