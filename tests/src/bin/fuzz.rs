//! One target of [`hotlb_tests::targets`] under libFuzzer, which finds inputs by the branches that they take. Its own
//! arguments are libFuzzer's; `cargo xtask fuzz` gives them.

#![no_main]

use std::{env, fs, io, path::Path, process, sync::LazyLock};

use hotlb_tests::targets::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

/// Which target; without, they are listed.
const NAME: &str = "HOTLB_FUZZ_TARGET";
/// The directory that its seeds are put into.
const SEEDS: &str = "HOTLB_FUZZ_SEEDS";

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let Ok(name) = env::var(NAME) else { list() };
    let target = TARGETS.iter().find(|target| target.name == name);
    *target.unwrap_or_else(|| end(&format!("{name}: there is no such target")))
});

fuzz_target!(
    init: {
        if let Err(error) = seed() {
            end(&format!("the seeds cannot be written: {error}"));
        }
    },
    |bytes: &[u8]| (TARGET.read)(bytes)
);

fn seed() -> io::Result<()> {
    let Some(directory) = env::var_os(SEEDS) else {
        return Ok(());
    };
    fs::create_dir_all(&directory)?;
    for (number, seed) in TARGET.seeds.iter().enumerate() {
        fs::write(Path::new(&directory).join(format!("seed{number}")), seed)?;
    }
    Ok(())
}

#[expect(
    clippy::exit,
    clippy::print_stdout,
    reason = "libFuzzer has the main function"
)]
fn list() -> ! {
    TARGETS
        .iter()
        .for_each(|target| println!("{}", target.name));
    process::exit(0)
}

#[expect(
    clippy::exit,
    clippy::print_stderr,
    reason = "libFuzzer has the main function"
)]
fn end(error: &str) -> ! {
    eprintln!("fuzz: {error}");
    process::exit(2)
}
