//! `cargo xtask ebpf check`: fails when the object that is checked in is not what the sources say.
//!
//! Comparing digests needs no tools. With the tools it is built again: the same versions must give
//! the same bytes; other versions must give the same programs and maps.

use std::fs;

use anyhow::{Context as _, Result, bail};

use super::{
    MANIFEST, OBJECT,
    build::{self, Built},
    contents::Contents,
    digest,
    manifest::{Manifest, Stale},
    toolchain::Toolchain,
};
use crate::project::Project;

/// Checks the object and says what was compared.
pub(crate) fn run(project: &Project) -> Result<()> {
    let object = fs::read(project.path(OBJECT))
        .with_context(|| format!("{OBJECT}; `cargo xtask ebpf build` writes it"))?;
    let manifest = Manifest::read(&project.path(MANIFEST))?;
    let stale = manifest.stale(
        &digest::of_bytes(&object),
        &digest::of_sources(project.root())?,
    );
    if !stale.is_empty() {
        bail!("{}; run `cargo xtask ebpf build`", complaint(&stale));
    }
    println!("ebpf: object and sources are those of the manifest");
    match Toolchain::find() {
        Ok(toolchain) => compare(&build::build(project, &toolchain)?, &object, &manifest),
        Err(missing) => {
            println!("ebpf: not built again: {missing:#}");
            Ok(())
        }
    }
}

fn complaint(stale: &[Stale]) -> String {
    let parts = stale.iter().map(|part| match part {
        Stale::Object => "the object is not the one its manifest speaks of",
        Stale::Sources => "the sources have changed since the object was built",
    });
    parts.collect::<Vec<_>>().join(", and ")
}

fn compare(built: &Built, object: &[u8], manifest: &Manifest) -> Result<()> {
    let versions = built.tools.differences(&manifest.tools);
    if !versions.is_empty() {
        println!(
            "ebpf: built again by other tools ({}); bytes not compared",
            versions.join("; ")
        );
        return same_interface(built, object);
    }
    if built.object != object {
        bail!("the same tools and sources give another object; run `cargo xtask ebpf build`");
    }
    println!(
        "ebpf: built again by the same tools: the same {} bytes",
        object.len()
    );
    Ok(())
}

fn same_interface(built: &Built, object: &[u8]) -> Result<()> {
    let interface = Contents::parse(object)?.interface;
    let differences = built.contents.interface.differences(&interface);
    if !differences.is_empty() {
        bail!(
            "the object built again differs (built; checked in): {}",
            differences.join(", ")
        );
    }
    let (programs, maps) = (interface.programs.len(), interface.maps.len());
    println!("ebpf: the same {programs} programs and {maps} maps");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stale_part_is_named() {
        let text = complaint(&[Stale::Object, Stale::Sources]);
        assert!(
            text.contains("manifest speaks of, and the sources"),
            "{text}"
        );
    }
}
