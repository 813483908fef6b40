//! `cargo xtask docs`: the man pages, and the book if mdBook is there.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{command, project::Project, search_path};

/// The arguments of `cargo xtask docs`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Install mdBook below target/ if it is not there (a few minutes)
    #[arg(long)]
    install: bool,
}

/// Builds man pages and book below the target directory.
pub(crate) fn run(arguments: &Arguments, project: &Project) -> Result<()> {
    let target = project.metadata()?.target_directory;
    man_pages(project, &target.join("man"))?;
    book(project, &target, arguments.install)
}

/// The tests that know the command line's types write them.
fn man_pages(project: &Project, directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let mut cargo = project.cargo();
    cargo.args(["test", "--quiet", "--package", "hotlb-cli", "--lib"]);
    cargo.arg("docs::man_pages").env("HOTLB_MAN", directory);
    command::run(&mut cargo)?;
    println!("man pages: {}", directory.display());
    Ok(())
}

fn book(project: &Project, target: &Path, install: bool) -> Result<()> {
    let tools = target.join("tools");
    let own = tools.join("bin").join("mdbook");
    if install && !own.exists() {
        let mut cargo = project.cargo();
        cargo.args(["install", "--locked", "--no-default-features", "--root"]);
        command::run(cargo.arg(&tools).arg("mdbook"))?;
    }
    let found = own.exists().then_some(own);
    let Some(mdbook) = found.or_else(|| search_path::find("mdbook")) else {
        println!(
            "book: not built, because mdbook is not there; `cargo xtask docs --install` gets it"
        );
        return Ok(());
    };
    let book = target.join("book");
    let mut build = Command::new(mdbook);
    build.arg("build").arg("--dest-dir").arg(&book);
    command::run(build.arg(project.path("docs")))?;
    println!("book: {}", book.join("index.html").display());
    Ok(())
}
