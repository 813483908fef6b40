//! What a machine boots into: busybox, the modules for its file systems, and a script.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::package::Kernel;
use crate::{command, project::Project, search_path};

/// Modules the file systems and the tests need. A kernel may have one of them built in.
const MODULES: [&str; 11] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "tcp_diag",
    "udp_diag",
    "tls",
    "veth",
    // What nf_tables asks a modprobe for that is not there yet.
    "crc32c_generic",
    "nf_tables",
    "nft_numgen",
];
/// Mounts the file systems, and becomes [`BEGIN`].
const INIT: &str = include_str!("init.sh");
/// Runs in the machine's last root and calls this program.
const BEGIN: &str = include_str!("begin.sh");

/// Packs it for `kernel`, with `xtask` to be run in the machine; gives its file.
pub(super) fn build(kernel: &Kernel, project: &Project, xtask: &Path) -> Result<PathBuf> {
    let tree = kernel.root().join("initramfs");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    for directory in ["bin", "dev", "proc", "sys", "host", "memory", "top"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    let busybox = search_path::find("busybox").context("no busybox")?;
    fs::copy(busybox, tree.join("bin/busybox"))?;
    copy_modules(kernel, &tree)?;
    write_program(&tree.join("init"), INIT)?;
    write_program(&tree.join("begin.sh"), BEGIN)?;
    fs::write(tree.join("settings"), settings(project, xtask))?;
    let file = kernel.root().join("initramfs.cpio");
    pack(&tree, &file)?;
    Ok(file)
}

/// Shell assignments for both scripts.
fn settings(project: &Project, xtask: &Path) -> String {
    let words = [
        ("MODULES", MODULES.join(" ")),
        ("XTASK", xtask.display().to_string()),
        ("PROJECT", project.root().display().to_string()),
        (
            "PATH_OF_TESTS",
            search_path::joined().to_string_lossy().into_owned(),
        ),
    ];
    let lines = words.map(|(name, value)| format!("{name}='{value}'\n"));
    lines.concat()
}

/// Copies the modules and those they need, and has busybox index them.
fn copy_modules(kernel: &Kernel, tree: &Path) -> Result<()> {
    let dependencies = fs::read_to_string(kernel.modules().join("modules.dep"))?;
    let goal = tree.join("lib/modules").join(&kernel.release);
    for file in closure(&dependencies) {
        let copy = goal.join(file);
        fs::create_dir_all(copy.parent().context("a module lies in a directory")?)?;
        fs::copy(kernel.modules().join(file), copy)?;
    }
    let depmod = ["depmod", "-b", &tree.display().to_string(), &kernel.release].map(str::to_owned);
    command::run(Command::new("busybox").args(depmod))
}

/// The files of [`MODULES`] and of what they depend on, from the lines of `modules.dep`.
fn closure(dependencies: &str) -> Vec<&str> {
    let lines = dependencies.lines().filter_map(|line| line.split_once(':'));
    let wanted = lines.filter(|(file, _)| {
        let name = Path::new(file).file_name().and_then(|name| name.to_str());
        let stem = name.and_then(|name| name.split('.').next());
        stem.is_some_and(|stem| MODULES.contains(&stem))
    });
    let mut files: Vec<_> = wanted
        .flat_map(|(file, needs)| std::iter::once(file).chain(needs.split_whitespace()))
        .collect();
    files.sort_unstable();
    files.dedup();
    files
}

fn write_program(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Packs `tree` as the kernel wants it.
fn pack(tree: &Path, file: &Path) -> Result<()> {
    let mut find = Command::new("find")
        .arg(".")
        .current_dir(tree)
        .stdout(Stdio::piped())
        .spawn()?;
    let names = find.stdout.take().context("find has no output")?;
    let packed = Command::new("busybox")
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(tree)
        .stdin(names)
        .stdout(File::create(file)?)
        .output()?;
    if !find.wait()?.success() || !packed.status.success() {
        let said = String::from_utf8_lossy(&packed.stderr).into_owned();
        return Err(io::Error::other(said)).context("pack the initramfs");
    }
    if fs::metadata(file)?.len() == 0 {
        bail!("the initramfs is empty");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_with_what_they_need() {
        let dependencies = "\
kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs.ko.xz
kernel/net/ipv4/tcp_diag.ko: kernel/net/ipv4/inet_diag.ko
kernel/fs/xfs/xfs.ko: kernel/lib/crc.ko
";
        assert_eq!(
            closure(dependencies),
            [
                "kernel/fs/9p/9p.ko.xz",
                "kernel/fs/netfs.ko.xz",
                "kernel/net/9p/9pnet.ko.xz",
                "kernel/net/ipv4/inet_diag.ko",
                "kernel/net/ipv4/tcp_diag.ko",
            ]
        );
    }
}
