//! `sample`: at a perf event, whether the task that was interrupted belongs to a cgroup, and where it
//! was.
//!
//! The profiler attaches it to events of whole CPUs. Events of a cgroup would be switched on and off,
//! with their timers, whenever a CPU goes from a task of the cgroup to another one and back; this
//! asks once a sample. By [`COUNTING`] it lets the kernel write a record of those that belong, or
//! writes none and counts stacks in maps, of which user space has to read little.
//!
//! The user's side is read frame by frame with a helper that fails where nothing is mapped:
//! `bpf_get_stackid` and the kernel's own call chain do the same, and there were kernels where they
//! ended in an oops. The maps are its own; `names::OF_SAMPLE` says how large they are.

use aya_ebpf::{
    Global,
    bindings::{BPF_NOEXIST, bpf_perf_event_data},
    btf_maps::{Array, CgroupArray, HashMap},
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_probe_read_user,
        generated::{
            bpf_get_current_comm, bpf_get_current_task_btf, bpf_get_stack, bpf_task_pt_regs,
        },
    },
    macros::btf_map,
};
use lb_common::sample::{
    ENTERED, FRAMES, GOES_ON, KERNEL, KEY_WORDS, NAME, NO_STACK, PROCESS, STACK_WORDS, TAKEN,
    TOTALS, USER,
};

use crate::{
    atomic::fetch_add,
    waiting::{FP_AT, IP_AT, SP_AT, field},
};

#[btf_map]
static SAMPLED: CgroupArray<1> = CgroupArray::new();
#[btf_map]
static STACKS: HashMap<u64, [u64; STACK_WORDS], 1> = HashMap::new();
#[btf_map]
static SAMPLES: HashMap<[u64; KEY_WORDS], u64, 1> = HashMap::new();
/// A place for each CPU where a stack is put together.
#[btf_map]
static DRAFTS: Array<[u64; STACK_WORDS], 1> = Array::new();
#[btf_map]
static SAMPLE_TOTALS: Array<[u64; TOTALS], 1> = Array::new();

/// Not 0: samples are counted, and no record is written.
#[unsafe(no_mangle)]
static COUNTING: Global<u32> = Global::new(0);
/// Where `struct pt_regs` says in which mode the CPU was, and what of it is set so in a user's
/// program of 64 bits.
#[unsafe(no_mangle)]
static MODE_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static MODE_MASK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static MODE_USER: Global<u32> = Global::new(0);

/// The kernel writes a record if this is not 0; aya's macro for such programs returns 0 always.
#[unsafe(no_mangle)]
#[unsafe(link_section = "perf_event")]
pub extern "C" fn sample(ctx: *mut bpf_perf_event_data) -> u32 {
    if !matches!(SAMPLED.current_task_under_cgroup(0), Ok(true)) {
        return 0;
    }
    if COUNTING.load() == 0 {
        return 1;
    }
    let _lost = count(ctx);
    0
}

#[inline(always)]
fn count(ctx: *mut bpf_perf_event_data) -> Option<()> {
    let totals = SAMPLE_TOTALS.get_ptr_mut(0)?.cast::<u64>();
    add(totals, TAKEN);
    // SAFETY: no argument, no effect.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let draft = DRAFTS.get_ptr_mut(cpu)?.cast::<u64>();
    let kernel = enter(kernel(ctx, draft), draft, totals)?;
    let user = enter(user(draft).unwrap_or(NO_STACK), draft, totals)?;
    let mut key = [0; KEY_WORDS];
    key[PROCESS] = bpf_get_current_pid_tgid() >> 32;
    key[KERNEL] = kernel;
    key[USER] = user;
    // SAFETY: two words of the key.
    unsafe { bpf_get_current_comm(key.as_mut_ptr().add(NAME).cast(), 16) };
    if add_one(&key).is_some() {
        return Some(());
    }
    if SAMPLES.insert(&key, &1, u64::from(BPF_NOEXIST)).is_ok() {
        add(totals, ENTERED);
        return Some(());
    }
    // Another CPU may have entered it meanwhile.
    add_one(&key)
}

#[inline(always)]
fn add_one(key: &[u64; KEY_WORDS]) -> Option<()> {
    let cell = SAMPLES.get_ptr_mut(key)?;
    // SAFETY: the value is one aligned word.
    unsafe { fetch_add(cell, 1) };
    Some(())
}

/// Keeps the draft under its number; `None` without room.
#[inline(always)]
fn enter(number: u64, draft: *mut u64, totals: *mut u64) -> Option<u64> {
    if number == NO_STACK || STACKS.get_ptr(number).is_some() {
        return Some(number);
    }
    // SAFETY: a draft has as many words; only this CPU writes it, and not now.
    let stack = unsafe { &*draft.cast::<[u64; STACK_WORDS]>() };
    STACKS.insert(number, stack, 0).ok()?;
    add(totals, ENTERED);
    Some(number)
}

/// Puts the kernel's side into the draft; its number.
#[inline(always)]
fn kernel(ctx: *mut bpf_perf_event_data, draft: *mut u64) -> u64 {
    // SAFETY: the draft has room for so many frames behind its first word.
    let bytes = unsafe { bpf_get_stack(ctx.cast(), draft.add(1).cast(), (FRAMES * 8) as u32, 0) };
    if bytes <= 0 {
        return NO_STACK;
    }
    let frames = bytes as u64 / 8;
    let mut number = Number::new();
    for place in 1..=FRAMES {
        if place as u64 > frames {
            break;
        }
        // SAFETY: within the draft.
        number.add(unsafe { *draft.add(place) });
    }
    // SAFETY: the first word.
    unsafe { *draft = frames };
    number.value()
}

/// Puts the user's side into the draft; its number.
#[inline(always)]
fn user(draft: *mut u64) -> Option<u64> {
    // SAFETY: the current task has registers, of the moment when it entered the kernel, be it by this
    // interrupt.
    let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8;
    let mode: u32 = field(registers, MODE_AT.load())?;
    if mode & MODE_MASK.load() != MODE_USER.load() {
        return None;
    }
    let ip: u64 = field(registers, IP_AT.load())?;
    let mut lowest: u64 = field(registers, SP_AT.load())?;
    let mut frame: u64 = field(registers, FP_AT.load())?;
    let mut number = Number::new();
    number.add(ip);
    // SAFETY: the second word.
    unsafe { *draft.add(1) = ip };
    let mut frames = 1;
    for place in 2..=FRAMES {
        // What is above is of callers; the outermost one has none.
        if frame < lowest || frame & 7 != 0 {
            break;
        }
        // SAFETY: the helper fails where nothing can be read.
        let Ok([next, caller]) = (unsafe { bpf_probe_read_user(frame as *const [u64; 2]) }) else {
            break;
        };
        if caller == 0 {
            frame = 0;
            break;
        }
        number.add(caller);
        // SAFETY: within the draft.
        unsafe { *draft.add(place) = caller };
        frames = place as u64;
        lowest = frame + 16;
        frame = next;
    }
    let goes_on = if frame == 0 { 0 } else { GOES_ON };
    number.add(goes_on);
    // SAFETY: the first word.
    unsafe { *draft = frames | goes_on };
    Some(number.value())
}

/// A number made of a stack's words, that another stack has by no chance worth a word.
struct Number(u64);

impl Number {
    #[inline(always)]
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    #[inline(always)]
    fn add(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }

    #[inline(always)]
    fn value(self) -> u64 {
        self.0 | 1
    }
}

#[inline(always)]
fn add(totals: *mut u64, word: usize) {
    // SAFETY: callers name words of the totals, which are aligned.
    unsafe { fetch_add(totals.add(word), 1) };
}
