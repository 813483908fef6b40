//! What can go wrong with programs and maps.

use std::{error::Error, io, path::PathBuf};

use aya::{EbpfError, maps::MapError, pin::PinError, programs::ProgramError};
use thiserror::Error;

/// A step of the kernel side that failed.
#[derive(Debug, Error)]
pub enum DatapathError {
    /// The object does not fit this kernel.
    #[error("the kernel refused the eBPF object: {0}; `hotlb doctor` shows what is missing")]
    Object(String),
    /// A program does not fit this kernel, or cannot be attached.
    #[error("eBPF program {name}: {reason}; `hotlb doctor` shows what is missing")]
    Program {
        /// The program.
        name: &'static str,
        /// What the kernel said; the verifier's last lines when it was the verifier.
        reason: String,
    },
    /// A map cannot be used.
    #[error("eBPF map {name}: {reason}")]
    Map {
        /// The map.
        name: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// A map or program is missing in the object: the build is broken.
    #[error("the eBPF object has no {0}")]
    Missing(&'static str),
    /// The kernel does not say where it keeps what a program reads.
    #[error(
        "the kernel does not describe its types ({0}); use a kernel with CONFIG_DEBUG_INFO_BTF"
    )]
    Types(String),
    /// A pin cannot be made or read.
    #[error("pin {path}: {reason}")]
    Pin {
        /// The pin.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
    },
    /// The pins were made by another layout version.
    #[error(
        "the maps in {path} have layout version {found}, but this hotlb takes over versions {from} \
         to {own}; end the service with the hotlb that made them (hotlb down)"
    )]
    Layout {
        /// The directory.
        path: PathBuf,
        /// The version of the maps.
        found: u64,
        /// The first version this program takes over.
        from: u32,
        /// The version of this program.
        own: u32,
    },
    /// A pinned map is not like the present object's, and cannot be made anew.
    #[error(
        "eBPF map {0} does not fit this hotlb's programs, and cannot be recreated while sockets \
         are in it"
    )]
    Unlike(&'static str),
    /// A socket does not fit into the group.
    #[error("listener {cookie:#x} cannot take slot {slot}: {source}")]
    Slot {
        /// The socket.
        cookie: u64,
        /// The slot.
        slot: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// All slots of a group, or all seats of a service, are taken.
    #[error("no room for {wanted} more listeners: {taken} of {slots} slots are taken")]
    Full {
        /// How many slots were wanted.
        wanted: u32,
        /// How many are taken.
        taken: u32,
        /// How many there are.
        slots: u32,
    },
    /// Anything else the system said.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl From<EbpfError> for DatapathError {
    fn from(error: EbpfError) -> Self {
        Self::Object(with_causes(&error))
    }
}

impl DatapathError {
    /// Lines of a verifier log that are shown; the last ones tell.
    const VERIFIER_LINES: usize = 4;

    pub(super) fn map(name: &'static str) -> impl FnOnce(MapError) -> Self {
        move |error| Self::Map {
            name,
            reason: with_causes(&error),
        }
    }

    pub(super) fn program(name: &'static str) -> impl FnOnce(ProgramError) -> Self {
        move |error| Self::Program {
            name,
            reason: match error {
                ProgramError::LoadError {
                    io_error,
                    verifier_log,
                } => shorten(&io_error, &verifier_log.to_string()),
                other => with_causes(&other),
            },
        }
    }

    pub(super) fn pin(path: PathBuf) -> impl FnOnce(PinError) -> Self {
        move |error| Self::Pin {
            path,
            reason: with_causes(&error),
        }
    }

    pub(super) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

/// The error and what caused it: aya's messages leave the errno to the cause.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// Lines the verifier ends with whatever it says: its own figures.
const FIGURES: [&str; 3] = ["processed ", "verification time", "stack depth"];

/// The verifier's last lines in one, and how many were left out.
fn shorten(error: &io::Error, log: &str) -> String {
    tracing::debug!(log, "full verifier log");
    let telling = |line: &&str| {
        !line.trim().is_empty() && !FIGURES.iter().any(|figures| line.starts_with(figures))
    };
    let lines: Vec<&str> = log.lines().filter(telling).collect();
    let left_out = lines.len().saturating_sub(DatapathError::VERIFIER_LINES);
    let last = lines.iter().skip(left_out).copied().collect::<Vec<_>>();
    if last.is_empty() {
        error.to_string()
    } else {
        format!(
            "{error}; verifier: {} ({left_out} lines before)",
            last.join(" | ")
        )
    }
}
