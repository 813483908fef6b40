//! `reserve`: keeps a service's ports for its own processes, on the whole host.
//!
//! Attached to the host's root cgroup, and only if the service asks for it. Runs before each TCP or UDP bind of any
//! process. A bind of one of the service's ports, in the service's network, by a process in none of its cgroups is
//! refused: at whatever address, it would share the service's clients, take them, or wait for its end.

use aya_ebpf::{
    helpers::{bpf_get_current_ancestor_cgroup_id, bpf_get_netns_cookie, bpf_ktime_get_coarse_ns},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use lb_common::{EventKind, reservation};

use crate::{
    join::{self, Bind},
    maps::{RESERVATION, RESERVED},
};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

/// Anybody may be refused as often as it likes; the agent hears of it so often at most.
const REPORTS: u64 = 1_000_000_000;

#[cgroup_sock_addr(bind4)]
pub fn reserve4(ctx: SockAddrContext) -> i32 {
    match join::rule(&ctx) {
        Some((port, _, _)) if !is_allowed(&ctx) => refuse(&join::bind4(&ctx, port)),
        _ => ALLOW,
    }
}

#[cgroup_sock_addr(bind6)]
pub fn reserve6(ctx: SockAddrContext) -> i32 {
    match join::rule(&ctx) {
        Some((port, _, _)) if !is_allowed(&ctx) => refuse(&join::bind6(&ctx, port)),
        _ => ALLOW,
    }
}

/// Whether it is another network's port, or the process is the service's.
#[inline(always)]
fn is_allowed(ctx: &SockAddrContext) -> bool {
    let Some(reservation) = RESERVATION.get_ptr(0) else {
        return true;
    };
    // SAFETY: a valid pointer to the row; the agent stores the cell whole.
    let network = unsafe { (&raw const (*reservation)[reservation::NETWORK]).read_volatile() };
    // SAFETY: the helper only reads.
    if network == 0 || unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) } != network {
        return true;
    }
    for level in 0..reservation::LEVELS {
        // SAFETY: the helper only reads the current task.
        let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if cgroup == 0 {
            return false;
        }
        // SAFETY: the value is not looked at.
        if unsafe { RESERVED.get(cgroup) }.is_some() {
            return true;
        }
    }
    false
}

#[inline(always)]
fn refuse(bind: &Bind) -> i32 {
    if let Some(reservation) = RESERVATION.get_ptr_mut(0) {
        // SAFETY: a valid pointer to the row; who writes at the same time writes the same moment.
        let last = unsafe { &raw mut (*reservation)[reservation::REPORTED] };
        // SAFETY: the helper only reads.
        let now = unsafe { bpf_ktime_get_coarse_ns() };
        // SAFETY: as above.
        if now.wrapping_sub(unsafe { last.read_volatile() }) > REPORTS {
            // SAFETY: as above.
            unsafe { last.write_volatile(now) };
            join::report(bind, EventKind::BindReserved);
        }
    }
    REFUSE
}
