//! `cargo xtask ebpf verifier`: what this kernel's verifier spends on each program, one a line: name, instructions,
//! states, bytes of stack. A program this kernel does not take is on stderr, with the reason.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output is its purpose"
)]

use anyhow::Result;
use hotlb::datapath::cost;

fn main() -> Result<()> {
    for cost in cost::costs()? {
        match cost {
            Ok(cost) => {
                let (instructions, states) = (cost.instructions, cost.states);
                println!("{}\t{instructions}\t{states}\t{}", cost.name, cost.stack);
            }
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}
