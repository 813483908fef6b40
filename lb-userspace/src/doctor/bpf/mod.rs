//! Program types, map types, and hotlb's own programs.

mod uses;

use super::{
    finding::{Check, Finding},
    kernel::Kernel,
    rights::Rights,
};
use crate::datapath::features::{self, Probe, Support, Trial};
use lb_common::names;
use uses::{MAP_TYPES, MAPPED, OWN_MAPS, OWN_PROGRAMS, PROGRAM_TYPES, READING, READING_ALONE, Use};

/// What the kernel answered.
#[derive(Clone, Debug)]
pub(super) struct Bpf {
    programs: Vec<Probe>,
    maps: Vec<Probe>,
    own: Trial,
}

const FORBIDDEN: &str = "a seccomp filter (of a container or a systemd unit), a security module \
                         or lockdown forbids bpf(2): allow it for hotlb";
const LOAD: &str = "bpf(BPF_PROG_LOAD)";
const CREATE: &str = "bpf(BPF_MAP_CREATE)";

impl Bpf {
    /// Asks the kernel.
    pub(super) fn gather() -> Self {
        Self {
            programs: features::program_types(),
            maps: features::map_types(),
            own: features::try_object(),
        }
    }

    /// How `steer` fared; `None` if it was not tried.
    pub(super) fn steer(&self) -> Option<&Support> {
        let mut own = self.own.programs.iter();
        own.find(|probe| probe.name == names::STEER)
            .map(|probe| &probe.support)
    }
}

/// The verdicts.
pub(super) fn check(bpf: &Bpf, kernel: &Kernel, rights: &Rights) -> Vec<Finding> {
    let mut findings = Vec::new();
    for probe in &bpf.programs {
        let used = find(&PROGRAM_TYPES, probe.name);
        let check = begin(used, format!("program type {}", probe.name), LOAD);
        findings.push(judge(check, &probe.support, used, rights));
    }
    for probe in &bpf.maps {
        let check = Check::needed(format!("map type {}", probe.name), CREATE);
        findings.push(judge(
            check,
            &probe.support,
            find(&MAP_TYPES, probe.name),
            rights,
        ));
    }
    if bpf.own.maps == Support::Yes {
        let check = Check::needed(format!("map type {}", MAPPED.name), "mmap(2)");
        findings.push(judge(check, &bpf.own.mapped, &MAPPED, rights));
    }
    let check = Check::needed("hotlb's maps", CREATE);
    findings.push(judge(check, &bpf.own.maps, &OWN_MAPS, rights));
    let reads_on = bpf.own.reading == Some(Support::Yes);
    for probe in &bpf.own.programs {
        // Nothing is lost then.
        let is_spare = probe.name == names::LEAVE && reads_on && probe.support != Support::Yes;
        if !is_spare {
            findings.push(own_program(probe, kernel, rights));
        }
    }
    if let Some(support) = &bpf.own.reading {
        let used = if bpf.own.has(names::LEAVE) {
            &READING
        } else {
            &READING_ALONE
        };
        let check = Check::optional(used.name, "FIONREAD on a socket in a sockhash");
        findings.push(judge(check, support, used, rights));
    }
    findings
}

fn own_program(probe: &Probe, kernel: &Kernel, rights: &Rights) -> Finding {
    let used = find(&OWN_PROGRAMS, probe.name);
    let is_noop = probe.name == names::NOOP;
    let name = if is_noop {
        "sk_reuseport migrate attach type".to_owned()
    } else {
        format!("hotlb's program {}", probe.name)
    };
    // The kernel's number explains it better than the verifier.
    let too_old = !kernel.is_at_least((5, 14));
    let support = match &probe.support {
        Support::Failed(_) if is_noop && too_old => &Support::No,
        other => other,
    };
    judge(begin(used, name, LOAD), support, used, rights)
}

fn begin(used: &Use, name: String, how: &'static str) -> Check {
    if used.is_optional() {
        Check::optional(name, how)
    } else {
        Check::needed(name, how)
    }
}

fn judge(check: Check, support: &Support, used: &Use, rights: &Rights) -> Finding {
    match support {
        Support::Yes => check.ok("works"),
        Support::No if used.is_optional() => {
            check.degraded("this kernel does not know it", used.cost, used.advice)
        }
        Support::Failed(reason) if used.is_optional() => {
            check.degraded(reason, used.cost, used.advice)
        }
        Support::No => check.missing("this kernel does not know it", used.cost, used.advice),
        Support::Refused => check.refused(rights, "refused (EPERM)", used.cost, FORBIDDEN),
        Support::Failed(reason) => check.missing(reason, used.cost, used.advice),
    }
}

fn find<'a>(uses: &'a [Use], name: &str) -> &'a Use {
    uses.iter()
        .find(|used| used.name == name)
        .unwrap_or(&OWN_MAPS)
}

#[cfg(test)]
impl Bpf {
    /// Every probe answered so.
    pub(super) fn all(support: &Support) -> Self {
        let probes = |uses: &[Use]| {
            uses.iter()
                .map(|used| Probe {
                    name: used.name,
                    support: support.clone(),
                })
                .collect::<Vec<_>>()
        };
        Self {
            programs: probes(&PROGRAM_TYPES),
            maps: probes(&MAP_TYPES),
            own: Trial {
                maps: support.clone(),
                mapped: support.clone(),
                programs: if *support == Support::Yes {
                    probes(&OWN_PROGRAMS)
                } else {
                    Vec::new()
                },
                reading: (*support == Support::Yes).then(|| support.clone()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::finding::{Verdict, exit},
        *,
    };

    fn findings(bpf: &Bpf, rights: &Rights) -> Vec<Finding> {
        check(bpf, &Kernel::of_version((6, 1)), rights)
    }

    #[test]
    fn all_there() {
        let found = findings(&Bpf::all(&Support::Yes), &Rights::all());
        assert!(found.iter().all(|finding| finding.verdict == Verdict::Ok));
        assert_eq!(
            found.len(),
            PROGRAM_TYPES.len() + MAP_TYPES.len() + 2 + OWN_PROGRAMS.len() + 1
        );
    }

    #[test]
    fn the_program_for_packets_matters_only_where_servers_could_not_read_on() {
        let mut bpf = Bpf::all(&Support::Yes);
        let count = findings(&bpf, &Rights::all()).len();
        for probe in &mut bpf.own.programs {
            if probe.name == names::LEAVE {
                probe.support = Support::Failed("no".to_owned());
            }
        }
        let found = findings(&bpf, &Rights::all());
        assert_eq!(found.len(), count - 1);
        assert!(found.iter().all(|finding| finding.verdict == Verdict::Ok));
        bpf.own.reading = Some(Support::Failed("0 of 2000".to_owned()));
        let found = findings(&bpf, &Rights::all());
        assert_eq!(found.len(), count);
        let said = |found: &[Finding], what: &str| {
            let mut costs = found.iter().filter_map(|finding| finding.cost.clone());
            costs.any(|cost| cost.contains(what))
        };
        assert!(said(&found, "are not asked to leave"));
        bpf = Bpf::all(&Support::Yes);
        bpf.own.reading = Some(Support::Failed("0 of 2000".to_owned()));
        let found = findings(&bpf, &Rights::all());
        assert!(said(&found, "by packets") && !said(&found, "are not asked to leave"));
    }

    #[test]
    fn a_refusal_to_nobody_is_not_checked_and_to_root_missing() {
        let refused = Bpf::all(&Support::Refused);
        assert_eq!(exit(&findings(&refused, &Rights::of_nobody())), 4);
        let found = findings(&refused, &Rights::all());
        assert_eq!(exit(&found), 7);
        assert!(
            found
                .iter()
                .all(|finding| finding.advice.as_deref() == Some(FORBIDDEN))
        );
    }

    #[test]
    fn every_probe_has_its_own_words() {
        let known = |uses: &[Use], name: &str| uses.iter().any(|used| used.name == name);
        assert!(
            features::program_types()
                .iter()
                .all(|p| known(&PROGRAM_TYPES, p.name))
        );
        assert!(
            features::map_types()
                .iter()
                .all(|p| known(&MAP_TYPES, p.name))
        );
        assert!(
            features::PROGRAMS
                .iter()
                .all(|name| known(&OWN_PROGRAMS, name))
        );
    }

    #[test]
    fn the_verifiers_words_are_kept() {
        let mut bpf = Bpf::all(&Support::Yes);
        for probe in &mut bpf.own.programs {
            probe.support = Support::Failed("R1 invalid mem access".to_owned());
        }
        let found = findings(&bpf, &Rights::all());
        let steer = found.iter().find(|f| f.check.ends_with("steer")).unwrap();
        assert_eq!(steer.found, "R1 invalid mem access");
        assert_eq!(steer.verdict, Verdict::Missing);
        assert_eq!(
            bpf.steer(),
            Some(&Support::Failed("R1 invalid mem access".to_owned()))
        );
    }
}
