//! How much of what servers write the kernel holds while nobody takes it to its file.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::{
    finding::{Check, Finding},
    rights::Rights,
};
use crate::{
    generation::output::ROOM,
    sys::{fifo, privilege, sysctl},
};

const MIB: usize = 1024 * 1024;

/// What decides about the room of pipes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outputs {
    is_unlimited: bool,
    limit: Option<i64>,
    may_raise: bool,
}

impl Outputs {
    /// Looks.
    pub(super) fn gather() -> Self {
        Self {
            is_unlimited: privilege::exceeds_resources(),
            limit: sysctl::read("fs.pipe-max-size"),
            may_raise: access(Path::new(fifo::LIMIT), AccessFlags::W_OK).is_ok(),
        }
    }
}

/// The verdict.
pub(super) fn check(outputs: Outputs, rights: &Rights) -> Finding {
    let check = Check::optional("output pipes", format!("CAP_SYS_RESOURCE, {}", fifo::LIMIT));
    let limit = outputs.limit.map_or(fifo::USUAL, |limit| {
        usize::try_from(limit).unwrap_or_default()
    });
    let room = ROOM / MIB;
    if outputs.is_unlimited || limit >= ROOM {
        check.ok(format!("up to {room} MiB"))
    } else if outputs.may_raise {
        check.ok(format!(
            "up to {room} MiB: root may raise fs.pipe-max-size for a moment"
        ))
    } else if let Some(shortage) = rights.shortage() {
        check.unchecked(shortage)
    } else {
        check.degraded(
            format!("{} KiB", limit / 1024),
            "while a server's output is not taken to its file (hotlb's logger is stopped, or the \
             disk hangs), the server blocks as soon as it has written that much",
            &format!("give the agent CAP_SYS_RESOURCE, or sysctl -w fs.pipe-max-size={ROOM}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    #[test]
    fn any_of_three_ways_is_enough() {
        let none = Outputs {
            is_unlimited: false,
            limit: Some(1_048_576),
            may_raise: false,
        };
        let refused = check(none, &Rights::all());
        assert_eq!(refused.verdict, Verdict::Degraded);
        assert_eq!(refused.found, "1024 KiB");
        // What the agent may is not what whoever asks may.
        assert_eq!(
            check(none, &Rights::of_nobody()).verdict,
            Verdict::Unchecked
        );
        let limit = Some(134_217_728);
        let ways = [
            Outputs {
                is_unlimited: true,
                ..none
            },
            Outputs {
                may_raise: true,
                ..none
            },
            Outputs { limit, ..none },
        ];
        for way in ways {
            assert_eq!(check(way, &Rights::of_nobody()).verdict, Verdict::Ok);
        }
    }
}
