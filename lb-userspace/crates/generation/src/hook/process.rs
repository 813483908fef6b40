//! A hook's processes: started, watched, ended.

use std::{
    io,
    os::fd::AsFd as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, Command},
    time::timeout_at,
};

use super::{HookOutcome, output::Output, starter::HookSpec};
use crate::{
    clock::Deadline,
    life::{describe, emptied},
    sys::{cgroup::Cgroup, netns::Netns},
};

/// How long killed processes may take to be gone before the result is given without them. Part of
/// the 100 ms after the deadline.
const DYING: Duration = Duration::from_millis(50);
/// How long the cgroup of processes that did not die at once (a file system that hangs) is watched,
/// to be removed after all.
const LINGERING: Duration = Duration::from_mins(10);
/// Bytes read at a time: what a pipe holds.
const READ: usize = 64 * 1024;
/// Reads of a killed hook's pipe: as many as the largest pipe there may be (1 MiB) needs.
const LAST_READS: usize = 16;

/// Runs the hook to its end, which is `limit` after now at the latest.
pub(super) async fn run(
    starter: &Path,
    cgroup: &Cgroup,
    netns: &Netns,
    spec: &HookSpec,
    limit: Duration,
    output: &mut Output,
) -> HookOutcome {
    let deadline = Deadline::after(limit);
    let running = async {
        clear(cgroup).await?;
        spawn(starter, netns)
    };
    let mut hook = match timeout_at(deadline.instant(), running).await {
        Ok(Ok(hook)) => hook,
        Ok(Err(error)) => {
            // Made for nothing, if it was made at all.
            let _not_there = cgroup.remove();
            return HookOutcome::NotStarted(error.to_string());
        }
        Err(_elapsed) => return HookOutcome::TimedOut(limit),
    };
    let outcome = match timeout_at(deadline.instant(), hook.follow(spec, output)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => HookOutcome::Failed(format!("cannot be followed: {error}")),
        Err(_elapsed) => HookOutcome::TimedOut(limit),
    };
    hook.end(cgroup, output).await;
    outcome
}

/// Makes the cgroup; kills what an earlier agent, killed meanwhile, left running in it.
async fn clear(cgroup: &Cgroup) -> io::Result<()> {
    Cgroup::create(cgroup.path().to_owned())?;
    if cgroup.is_populated() {
        cgroup.kill()?;
        emptied(cgroup).await?;
    }
    Ok(())
}

/// A hook that runs.
struct Running {
    child: Child,
    pipe: ChildStderr,
    buffer: Vec<u8>,
}

fn spawn(starter: &Path, netns: &Netns) -> io::Result<Running> {
    let mut command = Command::new(starter);
    command
        .arg("__hook")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = netns.spawn(&mut command)?;
    let pipe = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok(Running {
        child,
        pipe,
        buffer: vec![0; READ],
    })
}

impl Running {
    /// Hands over the spec and waits for the end of the first process.
    async fn follow(&mut self, spec: &HookSpec, output: &mut Output) -> io::Result<HookOutcome> {
        let refused = self.started(spec).await?;
        if !refused.is_empty() {
            return Ok(HookOutcome::NotStarted(refused));
        }
        let status = self.ended(output).await?;
        Ok(if status.success() {
            HookOutcome::Succeeded
        } else {
            HookOutcome::Failed(describe(status))
        })
    }

    /// What the starter says; nothing when it became the hook.
    async fn started(&mut self, spec: &HookSpec) -> io::Result<String> {
        let mut stdin = self.child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut status = self.child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(&serde_json::to_vec(spec)?).await?;
        drop(stdin);
        let mut said = String::new();
        status.read_to_string(&mut said).await?;
        Ok(said)
    }

    /// Reads all that is printed until the first process has ended. Others may hold the pipe
    /// open for longer: its end is not waited for.
    async fn ended(&mut self, output: &mut Output) -> io::Result<ExitStatus> {
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => return status,
                read = self.pipe.read(&mut self.buffer), if open => match read {
                    Ok(count) if count > 0 => output.add(self.buffer.get(..count).unwrap_or_default()),
                    _ => open = false,
                },
            }
        }
    }

    /// Kills what is left of the hook, takes what it printed last, and removes the cgroup.
    async fn end(mut self, cgroup: &Cgroup, output: &mut Output) {
        // It may not have entered the cgroup yet.
        let _ended = self.child.start_kill();
        if let Err(error) = cgroup.kill() {
            tracing::error!(%error, cgroup = %cgroup.path().display(), "failed to kill a hook");
        }
        let deadline = Deadline::after(DYING);
        let dead = async { self.ended(output).await.and(emptied(cgroup).await) };
        let gone = timeout_at(deadline.instant(), dead).await;
        self.read_rest(output);
        match gone {
            Ok(Ok(())) => remove(cgroup),
            Ok(Err(_)) | Err(_) => linger(cgroup.clone()),
        }
    }

    /// What is in the pipe now. By the descriptor itself: tokio reads only what epoll has
    /// announced, and that may come too late.
    fn read_rest(&mut self, output: &mut Output) {
        for _ in 0..LAST_READS {
            match rustix::io::read(self.pipe.as_fd(), &mut self.buffer) {
                Ok(count) if count > 0 => {
                    output.add(self.buffer.get(..count).unwrap_or_default());
                }
                _ => return,
            }
        }
    }
}

/// Kills what is in the cgroup, and removes it.
pub(super) async fn remove_all(cgroup: &Cgroup) {
    if let Err(error) = cgroup.kill() {
        tracing::error!(%error, cgroup = %cgroup.path().display(), "failed to kill hooks");
    }
    let gone = timeout_at(Deadline::after(DYING).instant(), emptied(cgroup)).await;
    if matches!(gone, Ok(Ok(()))) {
        remove(cgroup);
    } else {
        tracing::warn!(
            cgroup = %cgroup.path().display(),
            "hooks were killed but have not ended yet"
        );
    }
}

/// Removes the cgroup when its last process is gone after all.
fn linger(cgroup: Cgroup) {
    tracing::warn!(
        cgroup = %cgroup.path().display(),
        "processes of a hook were killed but have not ended yet"
    );
    tokio::spawn(async move {
        let deadline = Deadline::after(LINGERING);
        if let Ok(Ok(())) = timeout_at(deadline.instant(), emptied(&cgroup)).await {
            remove(&cgroup);
        }
    });
}

fn remove(cgroup: &Cgroup) {
    if let Err(error) = cgroup.remove() {
        tracing::warn!(
            %error,
            cgroup = %cgroup.path().display(),
            "failed to remove the cgroup of a hook"
        );
    }
}
