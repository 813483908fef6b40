//! Which object's programs decide about the services that are pinned.

use crate::{
    config::Places,
    datapath::{self, InForce},
};

use super::finding::{Check, Finding};

/// The services that have pins, and what is known of each.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    looked_at: String,
    services: Vec<(String, Result<InForce, String>)>,
}

impl Programs {
    /// Looks.
    pub(super) fn gather(places: &Places) -> Self {
        Self {
            looked_at: places.bpffs.display().to_string(),
            services: datapath::in_force(&places.bpffs),
        }
    }
}

/// The verdict.
pub(super) fn check(programs: &Programs) -> Finding {
    let check = Check::optional("programs in force", programs.looked_at.clone());
    let mut foreign = Vec::new();
    for (service, found) in &programs.services {
        match found {
            Ok(in_force) if in_force.is_own() => {}
            Ok(in_force) => foreign.push(format!("{service}: {}", name(*in_force))),
            Err(reason) => return check.unchecked(format!("{service}: {reason}")),
        }
    }
    if foreign.is_empty() {
        return check.ok(match programs.services.len() {
            0 => "no service is pinned".to_owned(),
            count => format!("of this hotlb, for {count} services"),
        });
    }
    check.degraded(
        format!("of another release: {}", foreign.join(", ")),
        "this release's fixes to its kernel programs are not in force for these services",
        "start this hotlb's agent, or replace the running one with it (hotlb agent upgrade); if it \
         is already running, its status says why; a service that is no longer configured keeps its \
         programs until it is configured again",
    )
}

fn name(in_force: InForce) -> String {
    match in_force.object {
        Some(object) => format!("object {object:016x}, layout {}", in_force.layout),
        None => format!("layout {}", in_force.layout),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    fn programs(services: &[(&str, Result<InForce, String>)]) -> Finding {
        let services = services.iter().map(|(n, f)| ((*n).to_owned(), f.clone()));
        check(&Programs {
            looked_at: "x".to_owned(),
            services: services.collect(),
        })
    }

    #[test]
    fn another_releases_are_named() {
        let own = InForce::own();
        let other = InForce {
            object: Some(7),
            ..own
        };
        assert_eq!(programs(&[]).verdict, Verdict::Ok);
        assert_eq!(programs(&[("web", Ok(own))]).verdict, Verdict::Ok);
        let finding = programs(&[("web", Ok(own)), ("api", Ok(other))]);
        assert_eq!(finding.verdict, Verdict::Degraded);
        assert!(finding.found.contains("api: object 0000000000000007"));
        let unseen = programs(&[("web", Err("no".to_owned()))]);
        assert_eq!(unseen.verdict, Verdict::Unchecked);
    }
}
