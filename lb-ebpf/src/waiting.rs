//! `waiting`: where the threads of generations are that are not on a CPU.
//!
//! An iterator over all tasks, which the profiler has run once a look; nothing of it runs otherwise,
//! and switching between threads costs no more than without it. A thread that was found waiting and
//! was on no CPU since is only counted: its stack is copied once for each time it stops. The maps
//! are its own; `names::OF_WAITING` says how large they are.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    bindings::task_struct,
    btf_maps::{Array, HashMap, RingBuf},
    helpers::{
        bpf_probe_read_kernel,
        generated::{bpf_copy_from_user_task, bpf_get_task_stack, bpf_task_pt_regs},
    },
    macros::btf_map,
};
use lb_common::{
    names::NO_REGISTER,
    wait::{
        FOUND, KERNEL, KERNEL_FRAMES, LENGTHS, LOST, OF, PAGE, REGISTERS, REPEATS, RUNNABLE,
        RUNNING, STACK, STACK_BYTES, TARGETS, THREAD, TORN, TOTALS, WORDS,
    },
};

/// `BPF_RB_NO_WAKEUP`: whoever has this run reads the ring afterwards.
const NO_WAKEUP: u64 = 1;
/// `TASK_DEAD`.
const DEAD: u32 = 0x80;

#[btf_map]
static WAITS: RingBuf<[u64; WORDS], 4096> = RingBuf::new();
#[btf_map]
static MEMBERS: HashMap<u32, u32, 1> = HashMap::new();
#[btf_map]
static SEEN: HashMap<u32, [u64; 2], 1> = HashMap::new();
#[btf_map]
static WAIT_TOTALS: Array<[u64; TOTALS], { TARGETS as usize }> = Array::new();

#[unsafe(no_mangle)]
static TID_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static PID_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static STATE_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static ON_CPU_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static GAVE_UP_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TAKEN_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static IP_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static SP_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static FP_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static LR_AT: Global<u32> = Global::new(0);

/// `struct bpf_iter__task`.
#[repr(C)]
pub struct Turn {
    meta: *mut c_void,
    task: *mut task_struct,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter.s/task")]
pub extern "C" fn waiting(turn: *mut Turn) -> i32 {
    // SAFETY: the kernel's context; null once it has been through all tasks.
    let task = unsafe { (*turn).task };
    if !task.is_null() {
        let _nothing_to_say = look(task);
    }
    0
}

/// How a thread is found.
#[derive(Clone, Copy)]
struct State {
    /// How often it has left a CPU.
    switches: u64,
    runnable: bool,
}

impl State {
    #[inline(always)]
    fn of(task: *mut task_struct) -> Option<Self> {
        let gave_up: u64 = field(task.cast(), GAVE_UP_AT.load())?;
        let taken: u64 = field(task.cast(), TAKEN_AT.load())?;
        let state: u32 = field(task.cast(), STATE_AT.load())?;
        if state & DEAD != 0 {
            return None;
        }
        Some(Self {
            switches: gave_up.wrapping_add(taken),
            runnable: state == 0,
        })
    }

    /// As one word, never 0.
    #[inline(always)]
    fn to_bits(self) -> u64 {
        (self.switches << 2) | (self.runnable as u64) << 1 | 1
    }
}

#[inline(always)]
fn look(task: *mut task_struct) -> Option<()> {
    let pid: u32 = field(task.cast(), PID_AT.load())?;
    // SAFETY: the value is a copied integer.
    let target = *unsafe { MEMBERS.get(&pid) }?;
    let totals = WAIT_TOTALS.get_ptr_mut(target)?.cast::<u64>();
    let state = State::of(task)?;
    count(totals, FOUND);
    if is_running(task)? {
        count(totals, RUNNING);
        return None;
    }
    let tid: u32 = field(task.cast(), TID_AT.load())?;
    let mut repeats = 0;
    if let Some(seen) = SEEN.get_ptr_mut(&tid) {
        let seen = seen.cast::<u64>();
        // SAFETY: two words, which only one look at a time touches.
        unsafe {
            if *seen == state.to_bits() {
                *seen.add(1) += 1;
                return None;
            }
            repeats = *seen.add(1);
        }
    }
    let Some(mut record) = WAITS.reserve(0) else {
        count(totals, LOST);
        return None;
    };
    let words = record.as_mut_ptr().cast::<u64>();
    // SAFETY: constant places within the record.
    unsafe {
        *words.add(THREAD) = u64::from(tid) | u64::from(pid) << 32;
        let runnable = if state.runnable { RUNNABLE } else { 0 };
        *words.add(OF) = u64::from(target) | u64::from(runnable) << 32;
        *words.add(REPEATS) = repeats;
    }
    stacks(task, words);
    // What was copied of a stack that is in use is no stack.
    let after = State::of(task).map_or(0, State::to_bits);
    if after != state.to_bits() || is_running(task).unwrap_or(true) {
        count(totals, TORN);
        record.discard(NO_WAKEUP);
        return None;
    }
    record.submit(NO_WAKEUP);
    // Without room its stack is copied at each look.
    let _full = SEEN.insert(&tid, &[state.to_bits(), 0], 0);
    None
}

/// Copies registers, the kernel's frames and the user's stack.
#[inline(always)]
fn stacks(task: *mut task_struct, words: *mut u64) {
    // SAFETY: the task is the iterator's, the place is within the record and has room.
    let kernel = unsafe {
        bpf_get_task_stack(
            task,
            words.add(KERNEL).cast(),
            (KERNEL_FRAMES * 8) as u32,
            0,
        )
    };
    let kernel = if kernel > 0 { kernel as u64 } else { 0 };
    // SAFETY: as above; the helper gives the address of the task's registers.
    let registers = unsafe { bpf_task_pt_regs(task) } as *const u8;
    let register = |at: u32| {
        if at == NO_REGISTER {
            return 0;
        }
        field(registers, at).unwrap_or(0)
    };
    let sp: u64 = register(SP_AT.load());
    // SAFETY: constant places within the record.
    unsafe {
        *words.add(REGISTERS) = register(IP_AT.load());
        *words.add(REGISTERS + 1) = sp;
        *words.add(REGISTERS + 2) = register(FP_AT.load());
        *words.add(REGISTERS + 3) = register(LR_AT.load());
    }
    // SAFETY: likewise.
    let copied = copy(task, sp, unsafe { words.add(STACK) }.cast());
    // SAFETY: likewise.
    unsafe { *words.add(LENGTHS) = kernel | copied << 32 };
}

/// Copies the stack page by page, as far as there is one; how much that was.
#[inline(always)]
fn copy(task: *mut task_struct, sp: u64, to: *mut u8) -> u64 {
    let first = PAGE - (sp as usize & (PAGE - 1));
    // SAFETY: at most a page, and there is room for several.
    if unsafe { bpf_copy_from_user_task(to.cast(), first as u32, sp as *const c_void, task, 0) }
        != 0
    {
        return 0;
    }
    let mut copied = first;
    for page in 0..STACK_BYTES / PAGE - 1 {
        let from = sp + (first + page * PAGE) as u64;
        // SAFETY: `first` is at most a page, so that this page ends within the record.
        let failed = unsafe {
            bpf_copy_from_user_task(
                to.add(first + page * PAGE).cast(),
                PAGE as u32,
                from as *const c_void,
                task,
                0,
            )
        };
        if failed != 0 {
            break;
        }
        copied += PAGE;
    }
    copied as u64
}

#[inline(always)]
fn is_running(task: *mut task_struct) -> Option<bool> {
    let on_cpu: u32 = field(task.cast(), ON_CPU_AT.load())?;
    Some(on_cpu != 0)
}

#[inline(always)]
pub fn field<T>(of: *const u8, at: u32) -> Option<T> {
    // SAFETY: the helper reads any address, or fails.
    unsafe { bpf_probe_read_kernel(of.wrapping_add(at as usize).cast::<T>()) }.ok()
}

#[inline(always)]
fn count(totals: *mut u64, word: usize) {
    // SAFETY: callers name words of the totals.
    unsafe { *totals.add(word) += 1 };
}
