//! One target of [`hotlb_tests::targets`] under libFuzzer, which finds inputs by the branches that they take. Its own
//! arguments are libFuzzer's; `cargo xtask fuzz` gives them.

#![no_main]

use std::{env, fs, path::Path, sync::LazyLock};

use hotlb_tests::targets::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

/// Which target; without it they are listed, and `-runs=0` ends the program then.
const NAME: &str = "HOTLB_FUZZ_TARGET";
/// The directory that its seeds are put into.
const SEEDS: &str = "HOTLB_FUZZ_SEEDS";

static TARGET: LazyLock<Option<Target>> = LazyLock::new(|| {
    let name = env::var(NAME).ok()?;
    TARGETS.into_iter().find(|target| target.name == name)
});

fuzz_target!(
    init: {
        match (*TARGET, env::var_os(SEEDS)) {
            (Some(target), Some(directory)) => seed(target, Path::new(&directory)),
            (Some(_), None) => {}
            (None, _) => list(),
        }
    },
    |bytes: &[u8]| {
        if let Some(target) = *TARGET {
            (target.read)(bytes);
        }
    }
);

#[expect(clippy::expect_used, reason = "libFuzzer has the main function")]
fn seed(target: Target, directory: &Path) {
    for (number, seed) in target.seeds.iter().enumerate() {
        let file = directory.join(format!("seed{number}"));
        fs::write(file, seed).expect("the seeds are written");
    }
}

#[expect(clippy::print_stdout, reason = "it was asked for")]
fn list() {
    for target in TARGETS {
        println!("{}", target.name);
    }
}
