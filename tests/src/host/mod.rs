//! A whole host for hotlb: a network namespace, and an agent with places of its own for everything it keeps.

mod agents;
mod ask;

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{api, cgroups, locate, netns::Netns, process::Process, report, wait};

/// How long the agent may take to answer after it was started.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A namespace, an agent, and the places that belong to them.
#[derive(Debug)]
pub struct Host {
    agent: Option<Process>,
    hotlb: PathBuf,
    bpffs: PathBuf,
    // Before the directory: it ends a successor of the agent, which puts back what is removed.
    netns: Netns,
    directory: TempDir,
}

impl Host {
    /// Makes the namespace and the places; starts nothing.
    pub fn without_agent() -> Result<Self> {
        Self::in_netns(Netns::new()?)
    }

    /// Starts an agent with this configuration.
    pub fn with_config(config: &str) -> Result<Self> {
        let mut host = Self::without_agent()?;
        host.write_config(config)?;
        host.start_agent()?;
        Ok(host)
    }

    /// Starts an agent with one service called `web`; `keys` are the lines of its section.
    pub fn with_service(keys: &str) -> Result<Self> {
        Self::with_config(&format!("[service.web]\n{keys}\n"))
    }

    /// Makes a second host beside this one, without an agent.
    pub fn sibling(&self) -> Result<Self> {
        Self::in_netns(self.netns.sibling()?)
    }

    fn in_netns(netns: Netns) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix(netns.name()).tempdir()?;
        // Servers that run as another user read their files here.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let bpffs = Path::new("/sys/fs/bpf").join(netns.name());
        Ok(Self {
            agent: None,
            hotlb: locate::hotlb()?,
            bpffs,
            directory,
            netns,
        })
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// A directory of the test's own, readable for every user.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the agent pins.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// The directory of the agent's cgroup.
    pub fn cgroup(&self) -> Result<PathBuf> {
        Ok(cgroups::mount()?.join(self.netns.name()))
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("run/api.sock")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("hotlb.toml")
    }

    /// Replaces the configuration.
    pub fn write_config(&self, config: &str) -> Result<()> {
        fs::write(self.config(), config).context("write the configuration")
    }

    /// A command in the namespace that finds this host's agent; `program` may be a wrapper of the binary.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.netns.command(program);
        command
            .env("HOTLB_CONFIG", self.config())
            .env("HOTLB_RUNTIME_DIR", self.directory.path().join("run"))
            .env("HOTLB_STATE_DIR", self.directory.path().join("state"))
            .env("HOTLB_BPFFS_DIR", &self.bpffs)
            .env("HOTLB_CGROUP", self.netns.name())
            .env_remove("HOTLB_BIN")
            .current_dir(self.directory.path());
        command
    }

    /// The path of the binary under test.
    pub fn binary(&self) -> &Path {
        &self.hotlb
    }

    /// Copies a program to where every user may run it: the build directory may be closed to them.
    pub fn copy_of(&self, program: &Path) -> Result<PathBuf> {
        let name = program.file_name().context("a program has a name")?;
        let copy = self.directory.path().join(name);
        if !copy.exists() {
            fs::copy(program, &copy).with_context(|| format!("copy {}", program.display()))?;
        }
        Ok(copy)
    }

    /// Starts a server that hotlb knows nothing of, in a session of its own: so the agent starts a generation. The kernel
    /// shares the CPUs between sessions (`sched_autogroup_enabled`): a server in its clients' session answers up to an
    /// eighth more.
    pub fn start_beside(&self, line: &[String]) -> Result<Process> {
        let mut command = self.netns.command("setsid");
        Process::start(
            command.args(line),
            &self.directory.path().join("beside.log"),
        )
    }

    /// Starts the agent and waits until it answers.
    pub fn start_agent(&mut self) -> Result<()> {
        self.start_agent_with(&[])
    }

    /// Starts the agent with these variables beside its own, and waits until it answers.
    pub fn start_agent_with(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        let mut command = self.command(&self.hotlb);
        command.arg("agent").envs(variables.iter().copied());
        self.start_agent_as(&mut command)
    }

    /// Starts the agent by this command and waits until it answers.
    pub fn start_agent_as(&mut self, command: &mut Command) -> Result<()> {
        let mut agent = Process::start(command, &self.directory.path().join("agent.log"))?;
        let socket = self.socket();
        let answers = wait::until_true("the agent answers", START_LIMIT, || {
            agent.ended().is_ok_and(|ended| ended.is_some()) || api::serves(&socket)
        });
        answers.with_context(|| format!("the agent's log:\n{}", agent.log()))?;
        if let Some(status) = agent.ended()? {
            anyhow::bail!("the agent ended: {status}\n{}", agent.log());
        }
        self.agent = Some(agent);
        Ok(())
    }

    /// Starts the agent and says how long it was until it took a connection at its control socket.
    pub fn start_agent_timed(&mut self, limit: Duration) -> Result<Duration> {
        let mut command = self.command(&self.hotlb);
        command.arg("agent");
        let began = Instant::now();
        let mut agent = Process::start(&mut command, &self.directory.path().join("agent.log"))?;
        let socket = self.socket();
        wait::until_true("the agent is ready", limit, || {
            agent.ended().is_ok_and(|ended| ended.is_some()) || UnixStream::connect(&socket).is_ok()
        })
        .with_context(|| format!("the agent's log:\n{}", agent.log()))?;
        let took = began.elapsed();
        if let Some(status) = agent.ended()? {
            anyhow::bail!("the agent ended: {status}\n{}", agent.log());
        }
        self.agent = Some(agent);
        Ok(took)
    }

    /// The running agent.
    pub fn agent(&mut self) -> Result<&mut Process> {
        self.agent.as_mut().context("no agent runs")
    }

    /// What the agent wrote so far, over all its lives.
    pub fn agent_log(&self) -> String {
        fs::read_to_string(self.directory.path().join("agent.log")).unwrap_or_default()
    }

    /// Kills the agent with SIGKILL.
    pub fn kill_agent(&mut self) -> Result<()> {
        self.agent.take().context("no agent runs")?.kill()
    }

    /// Whether an agent answers: the one that was started, or a successor of it.
    fn agent_answers(&self) -> bool {
        let answer = api::request(&self.socket(), "GET", "/v1/status", "1", "");
        answer.is_ok_and(|answer| answer.code == 200)
    }

    fn end(&mut self) -> Result<()> {
        if self.agent_answers() {
            cgroups::resume(&self.cgroup()?)?;
            let down = self.hotlb(&["down"])?;
            if down.code != 0 {
                report::remark(format!(
                    "`hotlb down` failed\n{}\n--- agent\n{}",
                    down.describe(),
                    self.agent_log()
                ));
            }
        }
        self.agent = None;
        cgroups::end(&self.cgroup()?)?;
        if self.bpffs.exists() {
            fs::remove_dir_all(&self.bpffs)
                .with_context(|| format!("remove {}", self.bpffs.display()))?;
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            report::remark(format!("cannot clean up after a test: {error:#}"));
        }
    }
}
