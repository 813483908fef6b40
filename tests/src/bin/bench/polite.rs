//! Upgrades under kept connections, with polite drain and by the server's signal alone.

use std::time::Duration;

use anyhow::Result;
use hotlb_tests::{
    polite::{self, Upgrades},
    report,
    servers::Kind,
    wrk,
};

use crate::{Scale, sample::against_aim};

/// The figure is about so many requests at least.
const REQUESTS: u64 = 1_000_000;

pub(crate) fn measure(scale: Scale) -> Result<()> {
    if let Some(reason) = wrk::missing().or(Kind::Nginx.missing()) {
        return report::skip("bench polite", reason);
    }
    let (upgrades, least) = if scale.quick {
        (7, Duration::ZERO)
    } else {
        (35, Duration::from_secs(40))
    };
    let polite = polite::upgrades(Kind::Nginx, "auto", upgrades, least)?;
    let failed = polite.clients.socket_errors + polite.clients.bad_status;
    let enough = polite.clients.requests >= REQUESTS || scale.quick;
    against_aim(
        "nginx, polite drain",
        &describe(&polite),
        "0 errors of at least 1,000,000 requests",
        failed == 0 && enough,
    );
    for (name, kind, mode) in [
        ("nginx, its signal alone", Kind::Nginx, "off"),
        ("node, polite drain", Kind::Node, "auto"),
        ("node, its signal alone", Kind::Node, "off"),
        (
            "a server without Connection headers, polite drain",
            Kind::PlainBare,
            "auto",
        ),
        ("the same, its signal alone", Kind::PlainBare, "off"),
    ] {
        match kind.missing() {
            Some(reason) => report::skip(name, reason)?,
            None => report::figure(
                name,
                describe(&polite::upgrades(
                    kind,
                    mode,
                    upgrades.min(7),
                    Duration::ZERO,
                )?),
            ),
        }
    }
    Ok(())
}

fn describe(outcome: &Upgrades) -> String {
    let mut promotes = outcome.promotes.clone();
    promotes.sort();
    let middle = promotes
        .get(promotes.len() / 2)
        .copied()
        .unwrap_or_default();
    let longest = promotes.last().copied().unwrap_or_default();
    format!(
        "{} upgrades, {} requests, {} socket errors, {} non-2xx; promote and drain {} ms (longest {} ms); {:?}",
        outcome.promotes.len(),
        outcome.clients.requests,
        outcome.clients.socket_errors,
        outcome.clients.bad_status,
        middle.as_millis(),
        longest.as_millis(),
        outcome.responses,
    )
}
