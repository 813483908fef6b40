//! Programs for other machines: `binfmt_misc` may have an emulator registered.

use std::{fs, path::Path};

/// Whether the kernel hands some kind of ELF file to a program of its own (qemu-user, Rosetta).
pub(super) fn has_handler() -> bool {
    let Ok(entries) = fs::read_dir(Path::new("/proc/sys/fs/binfmt_misc")) else {
        return false;
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .any(|entry| is_elf_handler(&entry))
}

/// Judges one entry, as Documentation/admin-guide/binfmt-misc.rst describes it.
fn is_elf_handler(entry: &str) -> bool {
    let mut lines = entry.lines();
    lines.next() == Some("enabled") && lines.any(|line| line.starts_with("magic 7f454c46"))
}

#[cfg(test)]
mod tests {
    use super::is_elf_handler;

    #[test]
    fn only_emulators_count() {
        let qemu = "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: OCF\noffset 0\n\
                    magic 7f454c460201010000000000000000000200b700\nmask ffff\n";
        assert!(is_elf_handler(qemu));
        assert!(!is_elf_handler(&qemu.replace("enabled", "disabled")));
        let python =
            "enabled\ninterpreter /usr/bin/python3.11\nflags: \noffset 0\nmagic a70d0d0a\n";
        assert!(!is_elf_handler(python));
        assert!(!is_elf_handler("enabled\n"));
    }
}
