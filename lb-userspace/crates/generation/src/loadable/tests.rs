//! Programs that cannot be loaded, made of one that can.

use std::{fs, os::unix::fs::PermissionsExt as _};

use tempfile::TempDir;

use super::*;

/// A directory for the programs of one test.
struct Bench {
    dir: TempDir,
    env: Environment,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            env: [("PATH", "/usr/bin:/bin")].into_iter().collect(),
        }
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn check(&self, path: &Path) -> Result<(), String> {
        self.doubt(path).map(drop)
    }

    /// What is doubtful about a program that is not refused.
    fn doubt(&self, path: &Path) -> Result<String, String> {
        let program = Program {
            path,
            cwd: self.dir.path(),
            env: &self.env,
            uid: 0,
            gid: 0,
        };
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(check(program))
            .map(|doubt| doubt.map_or_else(String::new, |doubt| doubt.to_string()))
            .map_err(|error| error.to_string())
    }

    /// What is said of a program with these bytes.
    fn refused(&self, bytes: &[u8]) -> String {
        let path = self.write("program", bytes, 0o755);
        let error = self.check(&path).unwrap_err();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        error
    }
}

fn shell() -> Vec<u8> {
    fs::read("/bin/sh").unwrap()
}

/// Every `from` in `bytes` replaced by a `to` of the same length.
fn patched(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter_map(|(at, window)| (window == from).then_some(at))
        .collect();
    assert!(!places.is_empty(), "nothing to patch");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

#[test]
fn what_can_be_loaded_passes() {
    let bench = Bench::new();
    assert_eq!(bench.check(Path::new("/bin/sh")), Ok(()));
    let copy = bench.write("copy", &shell(), 0o755);
    assert_eq!(bench.check(&copy), Ok(()));
    for text in [
        "#!/bin/sh\n",
        "#! /bin/sh -e\n",
        "#!/usr/bin/env sh\n",
        "#!/usr/bin/env -S sh -e\n",
        "no first line: a shell will run it\n",
        "",
        "#!\n",
    ] {
        let script = bench.write("script", text.as_bytes(), 0o755);
        assert_eq!(bench.check(&script), Ok(()), "{text:?}");
    }
}

#[test]
fn the_exec_bit_counts() {
    let bench = Bench::new();
    let path = bench.write("program", &shell(), 0o644);
    let error = bench.check(&path).unwrap_err();
    assert!(error.contains("not an executable file"), "{error}");
}

#[test]
fn a_missing_library_is_named() {
    let bench = Bench::new();
    let without = patched(shell(), b"libc.so.6\0", b"libx.so.6\0");
    let path = bench.write("program", &without, 0o755);
    let doubt = bench.doubt(&path).unwrap();
    assert!(
        doubt.contains("missing shared libraries: libx.so.6;"),
        "{doubt}"
    );
    assert!(doubt.contains(path.to_str().unwrap()), "{doubt}");
}

#[test]
fn a_library_of_the_servers_own_is_found() {
    let mut bench = Bench::new();
    let without = patched(shell(), b"libc.so.6\0", b"libx.so.6\0");
    let path = bench.write("program", &without, 0o755);
    let libc = fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .find_map(|line| {
            line.split_whitespace()
                .nth(5)
                .filter(|p| p.ends_with("/libc.so.6"))
        })
        .map(fs::read)
        .unwrap()
        .unwrap();
    bench.write("libx.so.6", &libc, 0o755);
    let here = bench.dir.path().to_str().unwrap().to_owned();
    bench.env.set("LD_LIBRARY_PATH", here);
    // It loads; that two C libraries would not run together is another matter.
    let doubt = bench.doubt(&path).unwrap();
    assert!(!doubt.contains("libx.so.6;"), "{doubt}");
}

#[test]
fn a_program_for_another_machine() {
    let bench = Bench::new();
    let mut bytes = shell();
    // e_machine: two bytes at 18.
    bytes[18..20].copy_from_slice(&object::elf::EM_S390.to_le_bytes());
    if foreign::has_handler() {
        return;
    }
    let error = bench.refused(&bytes);
    assert!(error.contains("is built for s390x"), "{error}");
    assert!(error.contains(std::env::consts::ARCH), "{error}");
}

#[test]
fn an_object_file_is_no_program() {
    let bench = Bench::new();
    let mut bytes = shell();
    // e_type: two bytes at 16.
    bytes[16..18].copy_from_slice(&object::elf::ET_REL.to_le_bytes());
    assert!(bench.refused(&bytes).contains("but not a program"));
}

#[test]
fn a_program_that_was_cut_off() {
    let bench = Bench::new();
    let bytes = shell();
    for length in [10, 63, 100, 1000, bytes.len() / 2] {
        let error = bench.refused(&bytes[..length]);
        assert!(error.contains("is damaged"), "{length}: {error}");
    }
}

#[test]
fn a_missing_loader_is_named() {
    let bench = Bench::new();
    let bytes = shell();
    let text = b"/lib64/ld-linux-x86-64.so.2\0";
    if !bytes.windows(text.len()).any(|window| window == text) {
        return; // another machine's loader has another name
    }
    let error = bench.refused(&patched(bytes, text, b"/lib64/ld-linux-x86-99.so.2\0"));
    assert!(
        error.contains("needs the loader /lib64/ld-linux-x86-99.so.2"),
        "{error}"
    );
}

#[test]
fn a_script_without_its_interpreter() {
    let bench = Bench::new();
    let error = bench.refused(b"#!/opt/none/python3 -u\n");
    assert!(error.contains("a script for /opt/none/python3,"), "{error}");
    let error = bench.refused(b"#!/usr/bin/env no-such-interpreter\n");
    assert!(
        error
            .contains("a script for no-such-interpreter, which is not in its PATH (/usr/bin:/bin)"),
        "{error}"
    );
    for dos in ["#!/bin/sh\r\ntrue\r\n", "#!/usr/bin/env sh\r\n"] {
        assert!(bench.refused(dos.as_bytes()).contains("DOS line endings"));
    }
}

#[test]
fn a_script_for_a_script() {
    let bench = Bench::new();
    bench.write("inner", b"#!/opt/none/lua\n", 0o755);
    let inner = bench.dir.path().join("inner");
    let outer = format!("#!{}\n", inner.display());
    let path = bench.write("outer", outer.as_bytes(), 0o755);
    let error = bench.check(&path).unwrap_err();
    assert!(
        error.starts_with(inner.to_str().unwrap()) && error.contains("/opt/none/lua"),
        "{error}"
    );
    let itself = format!("#!{}\n", bench.dir.path().join("loop").display());
    let path = bench.write("loop", itself.as_bytes(), 0o755);
    assert_eq!(bench.check(&path), Ok(()), "ends");
}
