//! `options`: keeps sockets at a service's ports where `steer` decides about them.
//!
//! Runs before each setsockopt(2) on a socket that was made in one of the service's cgroups. A socket that has one of the service's
//! ports and is bound to a device from then on would take the clients of that device, whichever generation is active:
//! that is refused. So is a program, or a filter, of the server's own at the group, if the service says so. Everything
//! else is left alone.

use aya_ebpf::{
    bindings::bpf_sockopt, helpers::bpf_get_current_cgroup_id, macros::cgroup_sockopt,
    programs::SockoptContext,
};
use lb_common::{BindRule, EventKind, port_key};

use crate::{
    join::{self, Bind, IPPROTO_TCP, IPPROTO_UDP, SOL_SOCKET},
    maps::PORTS,
};

const AF_INET6: u32 = 10;

const SO_BINDTODEVICE: i32 = 25;
const SO_ATTACH_REUSEPORT_CBPF: i32 = 51;
const SO_ATTACH_REUSEPORT_EBPF: i32 = 52;
const SO_BINDTOIFINDEX: i32 = 62;
const SO_DETACH_REUSEPORT_BPF: i32 = 68;

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

#[cgroup_sockopt(setsockopt)]
pub fn options(ctx: SockoptContext) -> i32 {
    // SAFETY: the context is valid for the run.
    let option: &mut bpf_sockopt = unsafe { &mut *ctx.sockopt };
    if option.level != SOL_SOCKET {
        return allow(option);
    }
    match option.optname {
        SO_BINDTODEVICE | SO_BINDTOIFINDEX => bind_to_device(option),
        SO_ATTACH_REUSEPORT_CBPF | SO_ATTACH_REUSEPORT_EBPF | SO_DETACH_REUSEPORT_BPF => {
            decide(option)
        }
        _ => allow(option),
    }
}

#[inline(always)]
fn bind_to_device(option: &mut bpf_sockopt) -> i32 {
    let (number, name) = if option.optname == SO_BINDTODEVICE {
        (0, name(option))
    } else {
        (number(option), [0; 4])
    };
    // An empty name, or the number 0, gives the socket back to all devices. The kernel takes a UDP socket out of its group
    // even then (`udp_lib_rehash`): it would get clients past the group.
    let [first, ..] = name;
    let is_for_all = number == 0 && first == 0;
    match port(option) {
        Some((bind, udp, _)) if udp || !is_for_all => join::refuse_device(&bind, number, name),
        _ => allow(option),
    }
}

#[inline(always)]
fn decide(option: &mut bpf_sockopt) -> i32 {
    let Some((bind, _, rule)) = port(option) else {
        return allow(option);
    };
    // The cgroups are the socket's, not the caller's: the agent attaches through sockets of the service, too.
    // SAFETY: the helper only reads the current task.
    let caller = unsafe { bpf_get_current_cgroup_id() };
    if rule.steered_by.is_none_or(|cgroup| cgroup == caller as u32) {
        return allow(option);
    }
    join::report(&bind, EventKind::ProgramRefused);
    REFUSE
}

/// Lets the kernel take the caller's own buffer, however long it is: 0 stands for that.
#[inline(always)]
const fn allow(option: &mut bpf_sockopt) -> i32 {
    option.optlen = 0;
    ALLOW
}

/// A byte of the value, if it has so many.
#[inline(always)]
fn byte(option: &bpf_sockopt, index: usize) -> Option<u8> {
    // SAFETY: the kernel gives both with the context.
    let (value, end) = unsafe {
        (
            option.__bindgen_anon_2.optval.cast::<u8>(),
            option.__bindgen_anon_3.optval_end.cast::<u8>(),
        )
    };
    let at = value.wrapping_add(index);
    // SAFETY: within the value.
    (at.wrapping_add(1) <= end).then(|| unsafe { at.read_volatile() })
}

#[inline(always)]
fn number(option: &bpf_sockopt) -> u32 {
    let byte = |index| byte(option, index).unwrap_or_default();
    u32::from_ne_bytes([byte(0), byte(1), byte(2), byte(3)])
}

/// A name, up to its zero.
#[inline(always)]
fn name(option: &bpf_sockopt) -> [u32; 4] {
    let mut words = [0_u32; 4];
    for (index, word) in words.iter_mut().enumerate() {
        let mut bytes = [0_u8; 4];
        for (part, byte_of_it) in bytes.iter_mut().enumerate() {
            match byte(option, 4 * index + part) {
                Some(0) | None => {
                    *word = u32::from_ne_bytes(bytes);
                    return words;
                }
                Some(byte) => *byte_of_it = byte,
            }
        }
        *word = u32::from_ne_bytes(bytes);
    }
    words
}

/// Where the socket is bound, whether by UDP, and the rule of that port, if it is one of the service's.
#[inline(always)]
fn port(option: &bpf_sockopt) -> Option<(Bind, bool, BindRule)> {
    // SAFETY: the kernel gives the socket with the context.
    let socket = unsafe { option.__bindgen_anon_1.sk };
    // SAFETY: the kernel gives the socket; each field is read by itself.
    let (family, protocol, port) = unsafe {
        (
            (&raw const (*socket).family).read_volatile(),
            (&raw const (*socket).protocol).read_volatile(),
            (&raw const (*socket).src_port).read_volatile() as u16,
        )
    };
    let udp = match protocol {
        IPPROTO_TCP => false,
        IPPROTO_UDP => true,
        _ => return None,
    };
    // SAFETY: the agent replaces rules whole and only between generations.
    let words = unsafe { PORTS.get(port_key(port, udp)) }?;
    // Each word by itself, whatever the family: the verifier refuses an offset that is computed.
    // SAFETY: as above.
    let (v4, ip6) = unsafe {
        let ip6 = (&raw const (*socket).src_ip6).cast::<u32>();
        (
            (&raw const (*socket).src_ip4).read_volatile(),
            [
                ip6.read_volatile(),
                ip6.add(1).read_volatile(),
                ip6.add(2).read_volatile(),
                ip6.add(3).read_volatile(),
            ],
        )
    };
    let v6 = family == AF_INET6;
    let address = if v6 {
        ip6.map(u32::from_be)
    } else {
        [0, 0, 0xffff, u32::from_be(v4)]
    };
    let bind = Bind { v6, port, address };
    Some((bind, udp, BindRule::from_words(words)))
}
