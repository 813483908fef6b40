//! A server that opens its listeners anew: what `track` tells `steer` and the agent of it.
//!
//! From listen(2) to the slot that the agent gives, a listener is in [`FRESH`], where `steer` finds it
//! when those with slots are gone; with the agent stopped or dead too. A listener that is closed by
//! a process that runs on may be followed by another one: [`CLOSINGS`] says when that was.

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_task, bpf_ktime_get_coarse_ns, bpf_probe_read_kernel},
    programs::SockOpsContext,
};
use lb_common::{EventKind, FreshKey, GenerationId, ListenKey};

use aya_ebpf::bindings::BPF_SOCK_OPS_STATE_CB_FLAG;

use crate::{
    events,
    maps::{CLOSINGS, DECLARED, FRESH, FRESH_COOKIES, LISTENERS},
    track::cookie,
};

/// Where a task's flags are; 0 where the kernel does not describe its types.
#[unsafe(no_mangle)]
static TASK_FLAGS_AT: Global<u32> = Global::new(0);

/// In a task's flags: it ends.
const PF_EXITING: u32 = 4;
/// It is the kernel's own, and closes what a process left behind: io_uring's work, say.
const PF_KTHREAD: u32 = 0x0020_0000;
const AF_INET: u32 = 2;

/// A socket of the generation begins to listen.
#[cold]
#[inline(never)]
pub fn listens(ctx: &SockOpsContext, generation: Option<GenerationId>) {
    let Some(generation) = generation else {
        return; // parking
    };
    let address = address(ctx);
    if DECLARED.get_ptr(address.to_words()).is_none() {
        return;
    }
    let (key, cookie) = (key(generation, address), cookie(ctx));
    // Whose connections move when it closes, even if no agent has seen it by then.
    let _full = LISTENERS.insert(cookie, generation.raw(), 0);
    let _full = FRESH_COOKIES.insert(key, cookie, 0);
    // SAFETY: the context is valid for the run.
    let ops = unsafe { &mut *ctx.ops };
    // A failure leaves it to the agent, as for a socket that already has somebody's data.
    let _left = FRESH.update(key, ops, 0);
    let _unknown = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
}

/// A listener of the generation closes.
#[cold]
#[inline(never)]
pub fn closes(ctx: &SockOpsContext, generation: Option<GenerationId>) {
    let Some(generation) = generation else {
        return;
    };
    let key = key(generation, address(ctx));
    // SAFETY: the value is a copied integer.
    if unsafe { FRESH_COOKIES.get(key) }.copied() == Some(cookie(ctx)) {
        let _there = FRESH_COOKIES.insert(key, 0, 0);
    }
    let Some(cell) = CLOSINGS.get_ptr_mut(generation.seat()) else {
        return;
    };
    let lives = is_alive();
    let moment = if lives {
        // SAFETY: the helper only reads.
        unsafe { bpf_ktime_get_coarse_ns() }
    } else {
        0
    };
    // SAFETY: a valid pointer to an aligned cell.
    unsafe { cell.write_volatile(moment) };
    if lives {
        events::send(EventKind::Closed, generation.raw());
    }
}

/// Whether the process that closes it runs on.
#[inline(always)]
fn is_alive() -> bool {
    let at = TASK_FLAGS_AT.load();
    if at == 0 {
        return false;
    }
    // SAFETY: the helper only reads.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let flags = task.wrapping_add(at as usize).cast::<u32>();
    // SAFETY: the helper reads whatever address it is given, or fails.
    match unsafe { bpf_probe_read_kernel(flags) } {
        Ok(flags) => flags & (PF_EXITING | PF_KTHREAD) == 0,
        Err(_unreadable) => false,
    }
}

#[inline(always)]
const fn key(generation: GenerationId, address: ListenKey) -> [u32; FreshKey::WORDS] {
    let generation = generation.raw();
    FreshKey {
        generation,
        address,
    }
    .to_words()
}

/// Where it listens.
#[inline(always)]
fn address(ctx: &SockOpsContext) -> ListenKey {
    let port = ctx.local_port() as u16;
    if ctx.family() == AF_INET {
        return ListenKey::v4(u32::from_be(ctx.local_ip4()), port);
    }
    // SAFETY: the context is valid for the run; the kernel allows reads of one word each.
    let words = unsafe { &raw const (*ctx.ops).local_ip6 }.cast::<u32>();
    let word = |index| {
        // SAFETY: `index` is below four.
        u32::from_be(unsafe { words.add(index).read_volatile() })
    };
    ListenKey::v6([word(0), word(1), word(2), word(3)], port)
}
