//! A test in a process of its own. All integration tests share one: what a test does to its process, or measures of it,
//! would be every other test's too.

#![expect(clippy::print_stdout, reason = "a test speaks through its output")]

use std::{env, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{command, patience};

/// Holds the name of the test that a process is for.
const VARIABLE: &str = "HOTLB_TEST_ALONE";
const LIMIT: Duration = Duration::from_mins(5);

/// Starts this program once more for the calling test alone, and runs `test` there. It must be the first thing the test
/// does.
pub fn run(test: impl FnOnce() -> Result<()>) -> Result<()> {
    let thread = thread::current();
    let name = thread.name().context("libtest names a test's thread")?;
    if env::var_os(VARIABLE).is_some_and(|alone| alone == name) {
        return test();
    }
    let mut again = Command::new(env::current_exe()?);
    again.args(["--exact", name, "--nocapture"]);
    let run = command::run(again.env(VARIABLE, name), patience::of(LIMIT))?;
    // Not to be taken for lines of this process: xtask counts those.
    let said = format!("| {}", run.describe().replace('\n', "\n| "));
    println!("{said}");
    ensure!(run.code == 0 && said.contains(" 1 passed;"), "{said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn it_is_another_process() {
        let file = env::temp_dir().join("hotlb-test-alone");
        run(|| Ok(std::fs::write(&file, process::id().to_string())?)).unwrap();
        if env::var_os(VARIABLE).is_none() {
            let pid = std::fs::read_to_string(&file).unwrap();
            std::fs::remove_file(&file).unwrap();
            assert_ne!(pid, process::id().to_string());
        }
    }

    #[test]
    fn its_failure_is_the_tests() {
        let failed = run(|| anyhow::bail!("of the process"));
        if env::var_os(VARIABLE).is_none() {
            assert!(failed.unwrap_err().to_string().contains("of the process"));
        } else {
            failed.unwrap();
        }
    }
}
