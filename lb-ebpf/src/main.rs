//! hotlb's kernel programs: what each one does stands in its own file.
//!
//! The agent loads this object once a reuseport group: the group's own maps are fresh each time,
//! the service's maps are shared by their pins (`lb_common::names`).
#![no_std]
#![no_main]
#![feature(core_intrinsics, adt_const_params)]
#![expect(internal_features, reason = "see `atomic`")]

mod atomic;
mod ending;
mod events;
mod guard;
mod join;
mod latency;
mod leave;
mod maps;
mod noop;
mod options;
mod packet;
mod polite;
mod quic;
mod recent;
mod refused;
mod reload;
mod reserve;
mod sample;
mod steer;
mod steer_udp;
mod storage;
mod track;
mod waiting;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
