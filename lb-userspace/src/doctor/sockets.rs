//! Whether the kernel lists sockets: how the agent finds a server's listeners.

use super::finding::{Check, Finding};
use crate::sys::{
    netns::Netns,
    sock_diag::{self, Protocol},
};

/// What went wrong with the list; `None` if it came.
#[derive(Clone, Debug)]
pub(super) struct Sockets(Option<String>);

impl Sockets {
    /// Asks for the listening TCP sockets, as ss(8) does.
    pub(super) fn gather() -> Self {
        Self(
            sock_diag::waiting(&Netns::own(), Protocol::Tcp)
                .err()
                .map(|error| error.to_string()),
        )
    }
}

/// The verdict.
pub(super) fn check(sockets: &Sockets) -> Finding {
    let check = Check::needed("sock_diag", "socket(AF_NETLINK, NETLINK_SOCK_DIAG)");
    match &sockets.0 {
        None => check.ok("the kernel lists sockets"),
        Some(reason) => check.missing(
            reason,
            "the agent cannot find a server's listeners: no generation gets ready",
            "use a kernel with CONFIG_INET_DIAG (module tcp_diag), and allow AF_NETLINK \
             (systemd: RestrictAddressFamilies=)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    #[test]
    fn a_kernel_that_lists_nothing() {
        assert_eq!(check(&Sockets(None)).verdict, Verdict::Ok);
        assert_eq!(
            check(&Sockets(Some("no".to_owned()))).verdict,
            Verdict::Missing
        );
    }
}
