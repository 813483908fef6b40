//! What `hotlb profile` says, as JSON.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::host::Host;

/// A profile.
#[derive(Debug, Clone, Deserialize)]
pub struct Profile {
    /// Functions.
    pub frames: Vec<Frame>,
    /// Generations.
    pub generations: Vec<Sampled>,
    /// What is missing.
    pub notes: Vec<String>,
    /// CPU time of the sampling.
    pub own_cpu_ms: u64,
    /// CPU time of finding names afterwards.
    pub names_cpu_ms: u64,
    /// Its memory.
    pub own_memory_bytes: u64,
    /// How long it took.
    pub took_ms: u64,
}

/// A function.
#[derive(Debug, Clone, Deserialize)]
pub struct Frame {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
}

/// A generation's samples.
#[derive(Debug, Clone, Deserialize)]
pub struct Sampled {
    /// How many.
    pub samples: u64,
    /// How many there should be.
    pub expected: Option<u64>,
    /// Records for which there was no room.
    pub lost: u64,
    /// Its stacks.
    pub stacks: Vec<Stack>,
}

/// A stack.
#[derive(Debug, Clone, Deserialize)]
pub struct Stack {
    /// The thread's name.
    pub thread: String,
    /// Places of functions, outermost first.
    pub frames: Vec<usize>,
    /// How often.
    pub count: u64,
}

impl Profile {
    /// Runs `hotlb profile` with these arguments; fails unless it ends with 0.
    pub fn take(host: &Host, arguments: &[&str]) -> Result<Self> {
        let run = host.ok(&[&["profile", "--output", "json"], arguments].concat())?;
        serde_json::from_str(&run.stdout).with_context(|| run.describe())
    }

    /// The only generation.
    pub fn only(&self) -> Result<&Sampled> {
        self.generations.first().context("no generation")
    }

    /// The functions of a stack, outermost first.
    pub fn functions<'a>(&'a self, stack: &'a Stack) -> impl Iterator<Item = &'a Frame> {
        stack
            .frames
            .iter()
            .filter_map(|&place| self.frames.get(place))
    }

    /// The share of the only generation's samples whose stack is as `wanted`, in percent.
    pub fn percent(&self, wanted: impl Fn(&Self, &Stack) -> bool) -> Result<f64> {
        let sampled = self.only()?;
        let wanted = sampled.stacks.iter().filter(|stack| wanted(self, stack));
        let count: u64 = wanted.map(|stack| stack.count).sum();
        Ok(100.0 * f64::from(u32::try_from(count)?)
            / f64::from(u32::try_from(sampled.samples.max(1))?))
    }

    /// The share of samples in functions whose name ends so, or in what those call, in percent.
    pub fn percent_in(&self, function: &str) -> Result<f64> {
        self.percent(|profile, stack| {
            profile
                .functions(stack)
                .any(|frame| frame.name.ends_with(function))
        })
    }

    /// The share of stacks that begin where a program or thread begins, in percent.
    pub fn percent_complete(&self) -> Result<f64> {
        const BEGINNINGS: [&str; 7] = [
            "_start",
            "main",
            "clone",
            "clone3",
            "__clone3",
            "start_thread",
            "thread_start",
        ];
        self.percent(|profile, stack| {
            let first = profile.functions(stack).next();
            first.is_some_and(|frame| BEGINNINGS.contains(&frame.name.as_str()))
        })
    }

    /// Samples taken, in percent of those expected.
    pub fn percent_of_expected(&self) -> Result<f64> {
        let sampled = self.only()?;
        let expected = u32::try_from(sampled.expected.context("nothing is expected")?)?;
        Ok(100.0 * f64::from(u32::try_from(sampled.samples)?) / f64::from(expected.max(1)))
    }
}
