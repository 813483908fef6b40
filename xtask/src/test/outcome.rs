//! What came of the tests: the sum over all test programs.

use anyhow::{Result, bail};

/// The sum over some test programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    passed: usize,
    failed: usize,
    ignored: usize,
    /// The names of those that failed.
    failures: Vec<String>,
    /// Test programs that have begun and told no result.
    unfinished: usize,
    /// The tests that were seen to run, but not to end: one whose line was never completed, or any that took long side by
    /// side with others.
    under_way: Vec<String>,
    /// What went wrong beside single tests, such as a program that did not end by itself.
    troubles: Vec<String>,
}

impl Outcome {
    /// Takes in one line of a test program's output.
    pub(super) fn line(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
            self.unfinished = self.unfinished.saturating_sub(1);
        } else if line.starts_with("running ") {
            self.unfinished += 1;
        } else if let Some(name) = begun(line) {
            self.under_way.push(name.to_owned());
        } else if let Some((name, end)) = ended(line) {
            self.under_way.retain(|under_way| under_way != name);
            if end == "FAILED" {
                self.failures.push(name.to_owned());
            }
        }
    }

    /// Takes in the end of a stage: whether cargo was content. A test program that crashes or is stopped takes the tests
    /// with it that were to come.
    pub(super) fn end(&mut self, stage: &str, success: bool, status: &str) {
        let unfinished = std::mem::take(&mut self.unfinished);
        if success || self.failed > 0 && unfinished == 0 {
            return;
        }
        let during = match self.under_way.join(", ") {
            names if names.is_empty() => names,
            names => format!(", in {names}"),
        };
        self.under_way.clear();
        self.troubles.push(format!(
            "{stage}: did not run to its end ({status}){during}"
        ));
    }

    /// Takes in what counts as a failure though no test says so.
    pub(super) fn troubles(&mut self, troubles: impl Iterator<Item = String>) {
        self.troubles.extend(troubles);
    }

    /// Takes in another outcome.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failures.extend(other.failures);
        self.troubles.extend(other.troubles);
    }

    /// Prints what failed, then the total. What failed beside single tests counts as one each.
    pub(super) fn show(&self) {
        println!();
        for name in &self.failures {
            println!("failed: {name}");
        }
        for trouble in &self.troubles {
            println!("failed: {trouble}");
        }
        let Self {
            passed, ignored, ..
        } = self;
        println!(
            "{passed} passed, {} failed, {ignored} ignored",
            self.all_failed()
        );
    }

    /// An error if anything failed.
    pub(super) fn verdict(&self) -> Result<()> {
        match self.all_failed() {
            0 => Ok(()),
            failed => bail!("{failed} tests failed"),
        }
    }

    fn all_failed(&self) -> usize {
        self.failed + self.troubles.len()
    }
}

/// The number before `word` in `… 12 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> usize {
    let mut words = counts
        .split([' ', ';', '.'])
        .filter(|word| !word.is_empty());
    let mut previous = "";
    let before = words.find_map(|current| {
        let before = std::mem::replace(&mut previous, current);
        (current == word).then_some(before)
    });
    before
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// The test that runs: with one thread libtest writes its name first, with several only when it takes long.
fn begun(line: &str) -> Option<&str> {
    let name = line.strip_prefix("test ")?;
    name.strip_suffix(" ...")
        .or_else(|| Some(name.split_once(" has been running for ")?.0))
}

/// The test that is over, and how it ended.
fn ended(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.split_once(" ... ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_programs() {
        let mut outcome = Outcome::default();
        outcome.line("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out");
        outcome.line("test a::b ... ok");
        outcome.line("test a::c ... FAILED");
        outcome.line("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered");
        assert_eq!((outcome.passed, outcome.failed, outcome.ignored), (7, 1, 1));
        assert_eq!(outcome.failures, ["a::c"]);
        outcome.verdict().unwrap_err();
    }

    #[test]
    fn a_stage_that_does_not_end_is_a_failure() {
        let mut outcome = Outcome::default();
        outcome.line("test result: ok. 5 passed; 0 failed; 0 ignored");
        outcome.end("unit tests", false, "exit status: 101");
        outcome.verdict().unwrap_err();
        // As libtest leaves it when it is killed: with one thread it writes a test's name first.
        let mut killed = Outcome::default();
        killed.line("running 2 tests");
        killed.line("test drain::one ... FAILED");
        killed.line("test drain::two ...");
        killed.end("integration tests", false, "exit status: 101");
        assert_eq!(
            killed.troubles,
            ["integration tests: did not run to its end (exit status: 101), in drain::two"]
        );
        let mut of_several = Outcome::default();
        of_several.line("test drain::one has been running for over 60 seconds");
        of_several.line("test drain::two has been running for over 60 seconds");
        of_several.line("test drain::one ... ok");
        of_several.end("integration tests", false, "signal: 9");
        assert_eq!(
            of_several.troubles,
            ["integration tests: did not run to its end (signal: 9), in drain::two"]
        );
        // What failed in another program does not explain that this one did not end.
        let mut after_another = Outcome::default();
        for line in [
            "running 1 test",
            "test result: FAILED. 0 passed; 1 failed; 0 ignored",
            "running 9 tests",
        ] {
            after_another.line(line);
        }
        after_another.end("integration tests", false, "signal: 6");
        assert_eq!(after_another.troubles.len(), 1);
        let mut good = Outcome::default();
        good.end("unit tests", true, "exit status: 0");
        good.verdict().unwrap();
    }
}
