//! Compiles `pointer-server`, which must have frame pointers: no profile of cargo can say so of one program.

use std::{env, error::Error, path::PathBuf, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=pointer-server/main.rs");
    println!("cargo::rerun-if-changed=src/parts.rs");
    let binary = PathBuf::from(env::var("OUT_DIR")?).join("pointer-server");
    let compiled = Command::new(env::var("RUSTC")?)
        .args(["--edition=2024", "--target", &env::var("TARGET")?])
        .args(["-C", "force-frame-pointers=yes", "-C", "opt-level=2"])
        .arg("-o")
        .arg(&binary)
        .arg("pointer-server/main.rs")
        .status()?;
    if !compiled.success() {
        return Err("pointer-server was not compiled".into());
    }
    println!("cargo::rustc-env=POINTER_SERVER={}", binary.display());
    Ok(())
}
