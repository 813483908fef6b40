//! What `hotlb profile` says, as JSON.

use std::{
    io::Write as _,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cgroups,
    host::Host,
    report,
    servers::{Kind, nginx},
    wrk::{self, Wrk},
};

/// A profile.
#[derive(Debug, Clone, Deserialize)]
pub struct Profile {
    /// Whom the kernel sampled.
    pub scope: String,
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
    /// Samples whose outermost callers were not found.
    pub truncated: u64,
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

    /// Of stock nginx under load; none, and the test `name` is skipped, where a program for that is missing.
    pub fn of_nginx(name: &str, options: &[&str]) -> Result<Option<Self>> {
        let nginx = nginx::binary().is_none();
        let missing = nginx.then_some("nginx is not installed").or(wrk::missing());
        if let Some(reason) = missing {
            report::skip(name, reason)?;
            return Ok(None);
        }
        let host = Host::with_service("listen = [\"0.0.0.0:8080\"]")?;
        let server = Kind::Nginx.command(host.directory(), "gen1", 8080)?;
        host.upgrade("gen1", &server)?;
        let load = Wrk::start(host.netns(), "127.0.0.1:8080".parse()?, 16)?;
        let profile = Self::take(&host, &[&["gen1", "--for", "5s"], options].concat());
        load.stop()?;
        profile.map(Some)
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

/// A helper that samples `gen1` of a host by a plan of the test's own, in ways no option asks for. It
/// gives up when this is dropped.
#[derive(Debug)]
pub struct Helper(Child);

impl Helper {
    /// Starts it; `plan` has what differs from ten seconds at 99 Hz.
    pub fn start(host: &Host, plan: &Value) -> Result<Self> {
        Self::start_by(host, plan, Command::new(host.binary()))
    }

    /// Likewise without the right to load BPF programs.
    pub fn start_without_bpf(host: &Host, plan: &Value) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .arg("--bounding-set=-bpf,-sys_admin")
            .arg(host.binary());
        Self::start_by(host, plan, command)
    }

    fn start_by(host: &Host, plan: &Value, mut command: Command) -> Result<Self> {
        let cgroup = cgroups::of(host.generation("gen1")?.process()?)?;
        let mut whole = json!({
            "service": "web",
            "targets": [{ "generation": "gen1", "cgroup": cgroup }],
            "frequency": 99,
            "duration_ms": 10_000,
            "unwind": "auto",
        });
        let differs = plan.as_object().context("a plan is an object")?;
        if let Some(whole) = whole.as_object_mut() {
            whole.extend(differs.clone());
        }
        let mut child = command
            .arg("__profile")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.as_mut().context("no stdin")?;
        writeln!(stdin, "{}", json!({ "once": whole }))?;
        Ok(Self(child))
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it answers in the end.
    pub fn profile(mut self) -> Result<Profile> {
        let stdout = self.0.stdout.take().context("no stdout")?;
        let mut answer: Value = serde_json::from_reader(stdout)?;
        match answer.get_mut("profile") {
            Some(profile) => Ok(serde_json::from_value(profile.take())?),
            None => bail!("no profile: {answer}"),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}
