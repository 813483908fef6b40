//! A machine: qemu, its console, and the directory it reports to.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use super::package::Kernel;

/// Processors: the tests measure on two.
const PROCESSORS: &str = "2";
/// Memory in MiB; three quarters of it hold what is written.
const MEMORY: &str = "3072";
/// A line of the console that is meant for whoever waits.
const TOLD: &str = "vm: ";

/// How the processors are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Accelerator {
    /// Emulated: works everywhere
    Tcg,
    /// The processor's own: needs /dev/kvm, and not everywhere where there is one does it work
    Kvm,
}

/// A machine that has not been started yet.
#[derive(Debug)]
pub(super) struct Machine {
    image: PathBuf,
    initramfs: PathBuf,
    shared: PathBuf,
    console: PathBuf,
    accelerator: Accelerator,
}

/// A machine that has ended.
#[derive(Debug)]
pub(super) struct Run {
    /// From its start to its end, on this machine's clock.
    pub(super) took: Duration,
    /// Where its console was written down.
    pub(super) console: PathBuf,
}

impl Run {
    /// Whether the machine ended by a fault of its emulation: with a thread for each processor, qemu now and then runs a
    /// breakpoint that the kernel has put into its own code for a moment, when the moment is over.
    pub(super) fn met_a_stale_breakpoint(&self) -> Result<bool> {
        Ok(fs::read_to_string(&self.console)?.contains("Oops: int3"))
    }
}

impl Machine {
    /// One that boots `kernel`.
    pub(super) fn new(kernel: &Kernel, initramfs: &Path, accelerator: Accelerator) -> Result<Self> {
        let shared = kernel.root().join("shared");
        fs::create_dir_all(&shared)?;
        Ok(Self {
            image: kernel.image(),
            initramfs: initramfs.to_owned(),
            console: shared.join("console.log"),
            shared,
            accelerator,
        })
    }

    /// The directory both sides see.
    pub(super) fn shared(&self) -> &Path {
        &self.shared
    }

    /// Runs it to its end; shows what it tells.
    pub(super) fn run(&self) -> Result<Run> {
        let began = Instant::now();
        let mut qemu = self
            .command()
            .spawn()
            .context("qemu-system-x86_64 did not start")?;
        let console = qemu.stdout.take().context("qemu has no output")?;
        let mut log = File::create(&self.console)?;
        for line in BufReader::new(console).split(b'\n') {
            let line = line?;
            let text = String::from_utf8_lossy(&line);
            writeln!(log, "{text}")?;
            // The firmware ends its last line with nothing.
            if let Some((_, told)) = text.trim_end().split_once(TOLD) {
                println!("  {:4} s  {told}", began.elapsed().as_secs());
            }
        }
        let status = qemu.wait()?;
        if !status.success() {
            bail!("qemu failed: {status}; see {}", self.console.display());
        }
        Ok(Run {
            took: began.elapsed(),
            console: self.console.clone(),
        })
    }

    /// Below everything else that runs here: a test machine can wait.
    fn command(&self) -> Command {
        let accelerator = match self.accelerator {
            Accelerator::Tcg => ["tcg,thread=multi", "max"],
            Accelerator::Kvm => ["kvm", "host"],
        };
        let [accelerator, processor] = accelerator;
        let mut command = Command::new("nice");
        command
            .args([
                "-n",
                "10",
                "qemu-system-x86_64",
                "-nodefaults",
                "-no-reboot",
            ])
            .args(["-display", "none", "-serial", "stdio"])
            .args(["-accel", accelerator, "-cpu", processor])
            .args(["-smp", PROCESSORS, "-m", MEMORY])
            .args(["-append", "console=ttyS0 quiet loglevel=4 panic=-1"])
            .arg("-kernel")
            .arg(&self.image)
            .arg("-initrd")
            .arg(&self.initramfs);
        files(&mut command, "host", Path::new("/"), "on");
        files(&mut command, "shared", &self.shared, "off");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

/// Shows the machine a directory of this one.
fn files(command: &mut Command, tag: &str, directory: &Path, read_only: &str) {
    let path = directory.display().to_string().replace(',', ",,");
    let backend = format!(
        "local,id={tag},path={path},readonly={read_only},security_model=none,multidevs=remap"
    );
    let device = format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}");
    command.args(["-fsdev", &backend, "-device", &device]);
}
