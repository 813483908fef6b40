//! Who asks: user, capabilities, user namespace.

use super::finding::{Check, Finding};
use crate::sys::{privilege, users};

/// What this process may do.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    uid: u32,
    user: String,
    /// Capabilities hotlb needs and this process does not hold.
    lacking: Vec<String>,
    on_the_host: bool,
}

impl Rights {
    /// Looks.
    pub(super) fn gather() -> Self {
        let uid = users::effective_uid();
        Self {
            uid,
            user: users::user_name(uid),
            lacking: privilege::lacking()
                .iter()
                .map(ToString::to_string)
                .collect(),
            on_the_host: privilege::in_initial_user_namespace(),
        }
    }

    /// Why a refusal says nothing about the host; `None` when this process has all rights.
    pub(super) fn shortage(&self) -> Option<String> {
        if !self.on_the_host {
            Some("needs root outside of this user namespace".to_owned())
        } else if self.lacking.is_empty() {
            None
        } else if self.uid == 0 {
            Some("needs the capabilities that are missing".to_owned())
        } else {
            Some("needs root".to_owned())
        }
    }
}

/// The verdicts.
pub(super) fn check(rights: &Rights) -> Vec<Finding> {
    vec![user(rights), capabilities(rights)]
}

fn user(rights: &Rights) -> Finding {
    let check = Check::needed("user", "geteuid(2), /proc/self/ns/user");
    let who = format!("{} (uid {})", rights.user, rights.uid);
    if rights.on_the_host {
        check.ok(who)
    } else {
        check.missing(
            format!("{who} of a user namespace"),
            "the kernel accepts no eBPF program from here, whatever the capabilities say",
            "run the agent as root of the host, not in a rootless container or `unshare -U`",
        )
    }
}

fn capabilities(rights: &Rights) -> Finding {
    let check = Check::needed("capabilities", "capget(2)");
    if rights.lacking.is_empty() {
        return check.ok(format!("all {} that are needed", privilege::NEEDED.len()));
    }
    if rights.uid != 0 {
        return check.unchecked("this user is not root, the agent must be");
    }
    check.missing(
        format!("without {}", rights.lacking.join(", ")),
        "the agent does not start",
        "give them to it: systemd CapabilityBoundingSet=, docker run --cap-add=",
    )
}

#[cfg(test)]
impl Rights {
    pub(super) fn all() -> Self {
        Self {
            uid: 0,
            user: "root".to_owned(),
            lacking: Vec::new(),
            on_the_host: true,
        }
    }

    pub(super) fn of_nobody() -> Self {
        Self {
            uid: 65534,
            user: "nobody".to_owned(),
            lacking: vec!["CAP_BPF".to_owned()],
            on_the_host: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    fn verdicts(rights: &Rights) -> Vec<Verdict> {
        check(rights)
            .iter()
            .map(|finding| finding.verdict)
            .collect()
    }

    #[test]
    fn who_can_run_the_agent() {
        let in_container = Rights {
            lacking: vec!["CAP_BPF".to_owned()],
            ..Rights::all()
        };
        let in_user_namespace = Rights {
            on_the_host: false,
            ..Rights::all()
        };
        let ambient = Rights {
            lacking: Vec::new(),
            ..Rights::of_nobody()
        };
        assert_eq!(verdicts(&Rights::all()), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(verdicts(&ambient), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(
            verdicts(&Rights::of_nobody()),
            [Verdict::Ok, Verdict::Unchecked]
        );
        assert_eq!(verdicts(&in_container), [Verdict::Ok, Verdict::Missing]);
        assert_eq!(
            verdicts(&in_user_namespace),
            [Verdict::Missing, Verdict::Ok]
        );
    }
}
