//! `join`: lets unmodified servers share a service's ports.
//!
//! Runs before each TCP or UDP bind of a process in one of the service's cgroups. A bind of a declared
//! address gets SO_REUSEPORT, so that generations can share it. A bind of one of the service's
//! ports on any other address would take clients away before the promote, for the kernel prefers
//! the more specific address: it is refused, or moved to the declared address. A socket that is
//! bound to a device is preferred, too, and is refused at any address. Every other bind is left
//! alone.

use core::ptr;

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        bpf_setsockopt,
    },
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use aya_log_ebpf::warn;
use lb_common::{BindRule, Event, EventKind, ListenKey, UNDECLARED_REWRITE, port_key};

use crate::{
    events,
    maps::{DECLARED, PORTS},
};

pub const IPPROTO_TCP: u32 = 6;
pub const IPPROTO_UDP: u32 = 17;
pub const SOL_SOCKET: i32 = 1;
const SO_REUSEPORT: i32 = 15;

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

#[cgroup_sock_addr(bind4)]
pub fn join4(ctx: SockAddrContext) -> i32 {
    let Some((port, udp, rule)) = rule(&ctx) else {
        return ALLOW;
    };
    let bind = bind4(&ctx, port);
    let [.., address] = bind.address;
    if let Some(device) = device(&ctx) {
        return refuse_device(&bind, device, [0; 4]);
    }
    if declared(ListenKey::v4(address, port).of(udp)) {
        return share(&ctx, &bind, &rule);
    }
    match rule.v4 {
        Some(to) if rule.undeclared == UNDECLARED_REWRITE => {
            // SAFETY: the kernel lets this hook write the address.
            unsafe { (*ctx.sock_addr).user_ip4 = to.to_be() };
            report(&bind, EventKind::BindRewritten);
            share(&ctx, &bind, &rule)
        }
        _ => refuse(&ctx, &bind),
    }
}

#[cgroup_sock_addr(bind6)]
pub fn join6(ctx: SockAddrContext) -> i32 {
    let Some((port, udp, rule)) = rule(&ctx) else {
        return ALLOW;
    };
    let bind = bind6(&ctx, port);
    if let Some(device) = device(&ctx) {
        return refuse_device(&bind, device, [0; 4]);
    }
    if declared(ListenKey::v6(bind.address, port).of(udp)) {
        return share(&ctx, &bind, &rule);
    }
    match rule.v6 {
        Some(to) if rule.undeclared == UNDECLARED_REWRITE => {
            set_user_ip6(&ctx, to);
            report(&bind, EventKind::BindRewritten);
            share(&ctx, &bind, &rule)
        }
        _ => refuse(&ctx, &bind),
    }
}

/// What the process asked for; IPv4 as IPv4-mapped, all in host order.
pub struct Bind {
    pub v6: bool,
    pub port: u16,
    pub address: [u32; 4],
}

/// An IPv4 bind of this port.
#[inline(always)]
pub fn bind4(ctx: &SockAddrContext, port: u16) -> Bind {
    // SAFETY: the context is valid for the run.
    let address = u32::from_be(unsafe { (*ctx.sock_addr).user_ip4 });
    Bind {
        v6: false,
        port,
        address: [0, 0, 0xffff, address],
    }
}

/// An IPv6 bind of this port.
#[inline(always)]
pub fn bind6(ctx: &SockAddrContext, port: u16) -> Bind {
    Bind {
        v6: true,
        port,
        address: user_ip6(ctx),
    }
}

/// The port, whether it is UDP's, and its rule, if this is a bind of one of the service's ports.
#[inline(always)]
pub fn rule(ctx: &SockAddrContext) -> Option<(u16, bool, BindRule)> {
    // SAFETY: the context is valid for the run.
    let bind: &bpf_sock_addr = unsafe { &*ctx.sock_addr };
    let udp = match bind.protocol {
        IPPROTO_TCP => false,
        IPPROTO_UDP => true,
        _ => return None,
    };
    let port = u16::from_be(bind.user_port as u16);
    // SAFETY: the agent replaces rules whole and only between generations.
    let words = unsafe { PORTS.get(port_key(port, udp)) }?;
    Some((port, udp, BindRule::from_words(words)))
}

#[inline(always)]
fn declared(key: ListenKey) -> bool {
    DECLARED.get_ptr(key.to_words()).is_some()
}

/// The device that the socket is bound to; a VRF is one, too.
#[inline(always)]
fn device(ctx: &SockAddrContext) -> Option<u32> {
    // SAFETY: the kernel gives the socket with the context.
    let socket = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if socket.is_null() {
        return None;
    }
    // SAFETY: the kernel allows reads of one field each.
    let device = unsafe { (&raw const (*socket).bound_dev_if).read_volatile() };
    (device != 0).then_some(device)
}

/// Sets SO_REUSEPORT and lets the bind go on.
#[inline(always)]
fn share(ctx: &SockAddrContext, bind: &Bind, rule: &BindRule) -> i32 {
    let mut one = 1_i32;
    // SAFETY: the helper reads the four bytes of `one`. Should it fail, the bind fails with
    // EADDRINUSE, which the server reports.
    unsafe {
        bpf_setsockopt(
            ctx.sock_addr.cast(),
            SOL_SOCKET,
            SO_REUSEPORT,
            ptr::from_mut(&mut one).cast(),
            size_of::<i32>() as i32,
        )
    };
    if bpf_get_current_uid_gid() as u32 != rule.uid {
        report(bind, EventKind::ForeignUser);
    }
    report(bind, EventKind::Bound);
    ALLOW
}

#[inline(always)]
fn refuse(ctx: &SockAddrContext, bind: &Bind) -> i32 {
    warn!(
        ctx,
        "bind of port {} refused: its address is not declared", bind.port
    );
    report(bind, EventKind::BindRefused);
    REFUSE
}

/// Refuses a socket with a device, which is known by its number or its name.
#[inline(always)]
pub fn refuse_device(bind: &Bind, number: u32, name: [u32; 4]) -> i32 {
    let event = event(bind, EventKind::DeviceRefused);
    events::submit(Event {
        generation: number,
        address: name,
        ..event
    });
    REFUSE
}

#[inline(always)]
pub fn report(bind: &Bind, kind: EventKind) {
    events::submit(event(bind, kind));
}

#[inline(always)]
fn event(bind: &Bind, kind: EventKind) -> Event {
    Event {
        kind,
        generation: 0,
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        uid: bpf_get_current_uid_gid() as u32,
        v6: bind.v6,
        port: bind.port,
        address: bind.address,
        // SAFETY: the helper only reads the current task.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
    }
}

#[inline(always)]
fn user_ip6(ctx: &SockAddrContext) -> [u32; 4] {
    // SAFETY: the context is valid for the run; the kernel allows reads of one word each.
    let words = unsafe { &raw const (*ctx.sock_addr).user_ip6 }.cast::<u32>();
    let word = |index| {
        // SAFETY: `index` is below four.
        u32::from_be(unsafe { words.add(index).read_volatile() })
    };
    [word(0), word(1), word(2), word(3)]
}

#[inline(always)]
fn set_user_ip6(ctx: &SockAddrContext, to: [u32; 4]) {
    // SAFETY: as in `user_ip6`; the hook may write the words one by one.
    let words = unsafe { &raw mut (*ctx.sock_addr).user_ip6 }.cast::<u32>();
    let [a, b, c, d] = to;
    let set = |index, word: u32| {
        // SAFETY: `index` is below four.
        unsafe { words.add(index).write_volatile(word.to_be()) };
    };
    set(0, a);
    set(1, b);
    set(2, c);
    set(3, d);
}
