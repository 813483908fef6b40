//! Which modules of tests need a feature that a supported kernel may lack.

use super::doctor::Finding;

/// A module and the check of `hotlb doctor` that says whether the kernel has what it tests. All others need only
/// what hotlb itself cannot do without.
const NEEDS: [(&str, &str); 4] = [
    ("polite", "hotlb's program polite"),
    ("long_lived", "hotlb's program polite"),
    ("losses", "btf"),
    ("latency", "hotlb's program received"),
];

/// Why the tests of `module` cannot pass on a kernel of which `findings` is said; none if it must.
pub(super) fn lacking(module: &str, findings: &[Finding]) -> Option<String> {
    let needed = NEEDS.iter().filter(|(name, _)| *name == module);
    let lacking = needed.filter_map(|(_, check)| {
        let found = findings.iter().find(|finding| finding.check == *check);
        found.filter(|finding| !finding.is_ok())
    });
    lacking
        .map(|finding| format!("{}: {}", finding.check, finding.found))
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_lacking_excuses() {
        let finding = |verdict: &str| Finding {
            check: "hotlb's program polite".to_owned(),
            verdict: verdict.to_owned(),
            found: "no bpf_loop".to_owned(),
            cost: None,
        };
        assert_eq!(lacking("polite", &[finding("ok")]), None);
        let why = lacking("polite", &[finding("degraded")]);
        assert_eq!(why.as_deref(), Some("hotlb's program polite: no bpf_loop"));
        assert_eq!(lacking("upgrades", &[finding("degraded")]), None);
    }
}
