//! `cargo xtask ebpf verifier`: what this kernel's verifier spends on each program, one a line: name, instructions,
//! states, bytes of stack.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use anyhow::Result;
use hotlb::datapath::cost;

fn main() -> Result<()> {
    for cost in cost::costs()? {
        let (instructions, states, stack) = (cost.instructions, cost.states, cost.stack);
        println!("{}\t{instructions}\t{states}\t{stack}", cost.name);
    }
    Ok(())
}
