//! Before all other programs of the machine: where a test is about what is usual, a neighbour that takes the CPUs away
//! for a moment is not.

use std::process::Command;

use nix::unistd::gettid;

use crate::report;

/// Gives this thread, and all threads and processes it starts from now on, real-time priority. Threads that run already
/// keep theirs: with the test's own thread, the priority ends.
pub fn before_neighbours() {
    let mut chrt = Command::new("chrt");
    chrt.args(["--rr", "--pid", "5", &gettid().to_string()]);
    let done = chrt.output().is_ok_and(|output| output.status.success());
    if !done {
        report::remark("chrt gives no real-time priority: neighbours may disturb this");
    }
}
