//! Takes the DWARF out of the object: six sevenths of it, and neither aya nor the kernel reads it.
//! BTF, which both read, stays.

use anyhow::{Context as _, Result};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// The ELF object `bytes` without DWARF.
pub(crate) fn without_dwarf(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(bytes).context("not an ELF object")?;
    for section in &mut elf.sections {
        section.delete = is_dwarf(section.name.as_slice());
    }
    elf.delete_orphans();
    split_string_table(&mut elf);
    let mut stripped = Vec::new();
    elf.write(&mut stripped)
        .context("the stripped object cannot be written")?;
    Ok(stripped)
}

/// LLVM keeps the names of sections and of symbols in one section; the writer wants two.
fn split_string_table(elf: &mut Builder<'_>) {
    let names = elf.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
}

/// Also true of the relocations that belong to a DWARF section.
fn is_dwarf(section: &[u8]) -> bool {
    section
        .strip_prefix(b".rel")
        .unwrap_or(section)
        .starts_with(b".debug_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dwarf_goes_and_btf_stays() {
        for section in [".debug_info", ".debug_str", ".rel.debug_line"] {
            assert!(is_dwarf(section.as_bytes()), "{section}");
        }
        for section in [
            ".BTF",
            ".BTF.ext",
            ".rel.BTF.ext",
            ".text",
            ".rel.text",
            ".maps",
        ] {
            assert!(!is_dwarf(section.as_bytes()), "{section}");
        }
    }
}
