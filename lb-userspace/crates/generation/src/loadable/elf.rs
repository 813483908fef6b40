//! ELF files: for this machine, whole, and loaded by whom?

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use object::{
    Endianness, FileKind, ReadCache, ReadRef, elf,
    read::elf::{FileHeader, ProgramHeader as _},
};

use super::{LoadableError, foreign};

/// Who loads the program's libraries.
pub(super) enum Loading {
    /// Nobody: it has none.
    Static,
    /// This program (`PT_INTERP`).
    By(PathBuf),
    /// It is for another machine, which this host has an emulator for; or it cannot be read.
    Unknown,
}

/// Looks at the headers.
///
/// # Errors
///
/// When the kernel will not run it, or half of it is missing.
pub(super) fn check(path: &Path) -> Result<Loading, LoadableError> {
    let (cache, length) = match open(path) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(
                %error,
                path = %path.display(),
                "failed to read an ELF file, which is not checked"
            );
            return Ok(Loading::Unknown);
        }
    };
    match FileKind::parse(&cache) {
        Ok(FileKind::Elf64) => headers::<elf::FileHeader64<Endianness>, _>(path, &cache, length),
        Ok(FileKind::Elf32) => headers::<elf::FileHeader32<Endianness>, _>(path, &cache, length),
        Ok(_) | Err(_) => Err(damaged(path, &"its header is incomplete")),
    }
}

fn open(path: &Path) -> io::Result<(ReadCache<File>, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((ReadCache::new(file), length))
}

fn damaged(path: &Path, reason: &impl ToString) -> LoadableError {
    LoadableError::Damaged {
        program: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn headers<'data, H, R>(path: &Path, data: R, length: u64) -> Result<Loading, LoadableError>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let bad = |error: object::Error| damaged(path, &error);
    let header = H::parse(data).map_err(bad)?;
    let endian = header.endian().map_err(bad)?;
    let machine = header.e_machine(endian);
    if !runs_here(machine, header.is_big_endian()) {
        if foreign::has_handler() {
            return Ok(Loading::Unknown);
        }
        return Err(LoadableError::Machine {
            program: path.to_owned(),
            built_for: machine_name(machine, header.is_big_endian()),
            host: std::env::consts::ARCH,
        });
    }
    if !matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN) {
        return Err(LoadableError::NoProgram(path.to_owned()));
    }
    let mut loading = Loading::Static;
    for segment in header.program_headers(endian, data).map_err(bad)? {
        let (offset, size) = segment.file_range(endian);
        let kind = segment.p_type(endian);
        let needed = offset.saturating_add(size);
        if matches!(kind, elf::PT_LOAD | elf::PT_INTERP) && needed > length {
            let reason = format!("it has {length} bytes, and a segment ends at byte {needed}");
            return Err(damaged(path, &reason));
        }
        let loader = segment
            .interpreter(endian, data)
            .map_err(|error| damaged(path, &error))?;
        if let Some(loader) = loader {
            loading = Loading::By(PathBuf::from(OsStr::from_bytes(loader)));
        }
    }
    Ok(loading)
}

/// What this processor runs, its 32-bit mode included (whether the kernel has that compiled in is
/// not judged here).
#[cfg(target_arch = "x86_64")]
const MACHINES: [u16; 2] = [elf::EM_X86_64, elf::EM_386];
#[cfg(target_arch = "aarch64")]
const MACHINES: [u16; 2] = [elf::EM_AARCH64, elf::EM_ARM];

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn runs_here(machine: u16, big_endian: bool) -> bool {
    MACHINES.contains(&machine) && big_endian == cfg!(target_endian = "big")
}

/// Nobody has tried other machines.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn runs_here(_machine: u16, _big_endian: bool) -> bool {
    true
}

/// The name as `uname -m` says it, for those that are around.
fn machine_name(machine: u16, big_endian: bool) -> String {
    let name = match (machine, big_endian) {
        (elf::EM_X86_64, _) => "x86_64",
        (elf::EM_386, _) => "i686",
        (elf::EM_AARCH64, false) => "aarch64",
        (elf::EM_AARCH64, true) => "aarch64_be",
        (elf::EM_ARM, _) => "arm",
        (elf::EM_RISCV, _) => "riscv",
        (elf::EM_PPC64, false) => "ppc64le",
        (elf::EM_PPC64, true) => "ppc64",
        (elf::EM_S390, _) => "s390x",
        (elf::EM_LOONGARCH, _) => "loongarch",
        (elf::EM_BPF, _) => "bpf",
        _ => return format!("another machine (ELF machine {machine})"),
    };
    name.to_owned()
}
