//! The checks that cargo and its components make.

use std::process::Command;

use crate::{command, project::Project, search_path};

/// One run of cargo.
struct Step {
    name: &'static str,
    /// The component of the toolchain it needs beside cargo.
    component: Option<&'static str>,
    arguments: &'static [&'static str],
}

const STEPS: [Step; 4] = [
    Step {
        name: "format",
        component: Some("rustfmt"),
        arguments: &["fmt", "--all", "--check"],
    },
    Step {
        name: "format of the kernel programs",
        component: Some("rustfmt"),
        arguments: &["fmt", "--manifest-path", "lb-ebpf/Cargo.toml", "--check"],
    },
    Step {
        name: "clippy",
        component: Some("clippy"),
        arguments: &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    },
    Step {
        name: "documentation",
        component: None,
        arguments: &[
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ],
    },
];

/// Needs a tool that not every machine has, so it is looked for.
const DENY: Step = Step {
    name: "dependencies",
    component: None,
    arguments: &[
        "deny",
        "--all-features",
        "check",
        "bans",
        "licenses",
        "sources",
    ],
};

/// Runs all steps; gives the names of those that failed.
pub(super) fn run(project: &Project) -> Vec<&'static str> {
    let mut failed: Vec<_> = STEPS
        .iter()
        .filter(|step| !step.passes(project))
        .map(|step| step.name)
        .collect();
    if search_path::find("cargo-deny").is_none() {
        println!("lint: dependencies: not checked, as cargo-deny is not installed");
    } else if !DENY.passes(project) {
        failed.push(DENY.name);
    }
    failed
}

impl Step {
    fn passes(&self, project: &Project) -> bool {
        if let Some(component) = self.component.filter(|name| !is_installed(project, name)) {
            println!(
                "lint: {component} is missing; `rustup component add {component}` installs it"
            );
            return false;
        }
        let outcome = command::run(&mut self.command(project));
        if let Err(error) = &outcome {
            println!("lint: {}: {error:#}", self.name);
        }
        outcome.is_ok()
    }

    fn command(&self, project: &Project) -> Command {
        let mut cargo = project.cargo();
        cargo
            .args(self.arguments)
            .env("RUSTDOCFLAGS", "-D warnings");
        cargo
    }
}

fn is_installed(project: &Project, component: &str) -> bool {
    let verb = component.trim_start_matches("rust");
    command::capture(project.cargo().args([verb, "--version"])).is_ok()
}
