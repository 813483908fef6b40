//! A profile: what was sampled, with names.

use hotlb_sys::perf::Scope;
use serde::{Deserialize, Serialize};

/// How the callers of a function are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Unwind {
    /// By the tables of programs and libraries (`.eh_frame`), by frame pointers where code has none.
    #[default]
    Auto,
    /// By the tables alone.
    Dwarf,
    /// By frame pointers alone, in the kernel, where stacks are counted: cheapest; wrong for programs
    /// built without them.
    Fp,
}

impl Unwind {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dwarf => "dwarf",
            Self::Fp => "fp",
        }
    }
}

/// What a profile counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Time on a CPU.
    #[default]
    Cpu,
    /// Time off the CPUs, thread by thread: waiting for something, or for a CPU.
    Waiting,
}

/// Stacks of one or two generations, sampled at the same moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Profile {
    /// The service's name.
    pub service: String,
    /// What the profile counts.
    #[serde(default)]
    pub measure: Measure,
    /// Samples per second of CPU time, or of each thread's waiting.
    pub frequency: u32,
    /// How long the sampling took.
    pub took_ms: u64,
    /// How callers were found.
    pub unwind: Unwind,
    /// Which processes the kernel sampled.
    pub scope: Scope,
    /// All functions; stacks name them by their place here.
    pub frames: Vec<Frame>,
    /// The generations, in the order of the request.
    pub generations: Vec<Sampled>,
    /// What is less than was asked for, and why.
    pub notes: Vec<String>,
    /// CPU time of the sampling itself, in milliseconds.
    pub own_cpu_ms: u64,
    /// CPU time of finding the names afterwards, in milliseconds.
    pub names_cpu_ms: u64,
    /// The most memory that the sampling used at once (resident, with the pages of mapped programs).
    pub own_memory_bytes: u64,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Frame {
    /// The function's name, or `module+0x…` for code without names.
    pub name: String,
    /// The path of the program or library; `null` if there is none.
    pub module: Option<String>,
    /// What kind of code the function is.
    pub kind: FrameKind,
}

/// What kind of code a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum FrameKind {
    /// Of a program or library.
    User,
    /// Of a program or library, copied by the compiler into its caller.
    Inlined,
    /// Made at run time (JavaScript, Java).
    Jit,
    /// Of the kernel.
    Kernel,
    /// No function, but a remark in brackets.
    Note,
}

/// One generation's samples.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sampled {
    /// The generation's name.
    pub generation: String,
    /// Samples, of all stacks together.
    pub samples: u64,
    /// Samples that there should be, by the CPU time that the kernel accounts to its cgroup (of waiting: by the rest
    /// of its threads' time); `null` if the kernel does not say.
    pub expected: Option<u64>,
    /// Samples that were lost for want of room.
    pub lost: u64,
    /// Samples whose outermost callers were not found.
    pub truncated: u64,
    /// What the generation worked on meanwhile.
    pub exposure: Exposure,
    /// The stacks, most frequent first.
    pub stacks: Vec<Stack>,
}

/// What a generation worked on while it was sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Exposure {
    /// Connections that were opened meanwhile.
    pub opened: u64,
    /// Connections open at the beginning and at the end, added up.
    pub live_twice: u64,
}

/// A stack, and how often it was sampled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stack {
    /// The thread's name.
    pub thread: String,
    /// Places in the profile's `frames`, outermost first.
    pub frames: Vec<u32>,
    /// How often it was sampled.
    pub count: u64,
}

impl Profile {
    /// The frames of a stack, outermost first.
    pub fn frames_of<'a>(&'a self, stack: &'a Stack) -> impl Iterator<Item = &'a Frame> + Clone {
        let frame = move |&place: &u32| self.frames.get(usize::try_from(place).ok()?);
        stack.frames.iter().filter_map(frame)
    }
}
