//! Before all other programs of the machine: where a test is about what is usual, a neighbour that takes the CPUs away
//! for a moment is not.

use std::process::Command;

use crate::report;

/// Gives all threads of this process, and all processes it starts from now on, real-time priority.
pub fn before_neighbours() {
    let mut chrt = Command::new("chrt");
    chrt.args(["--rr", "--all-tasks", "--pid", "5"]);
    chrt.arg(std::process::id().to_string());
    let done = chrt.output().is_ok_and(|output| output.status.success());
    if !done {
        report::remark("chrt gives no real-time priority: neighbours may disturb this");
    }
}
