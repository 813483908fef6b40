//! `cargo xtask demo`: the whole story on real servers, in a network namespace of its own.
#![expect(
    clippy::print_stdout,
    reason = "a demonstration speaks through its output"
)]

mod story;
mod tally;

use anyhow::{Result, ensure};

use self::tally::Tally;

fn main() -> Result<()> {
    let mut tally = Tally::default();
    story::waiting_client(&mut tally)?;
    story::nginx(&mut tally)?;
    story::plain_server(&mut tally)?;
    story::crash(&mut tally)?;
    story::agent_killed(&mut tally)?;
    println!("\n{}", tally.table());
    ensure!(
        tally.failed() == 0,
        "{} requests failed, where none should",
        tally.failed()
    );
    Ok(())
}
