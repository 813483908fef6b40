//! The eBPF object and how it is loaded.

use std::path::Path;

use aya::{
    Ebpf, EbpfError, EbpfLoader, VerifierLogLevel,
    maps::{Map, MapError},
};
use hotlb_sys::heap::GivesBack;
use lb_common::names;

use super::{
    error::DatapathError,
    kernel_fields,
    loaders::{self, Constants},
    pins::Pins,
};

/// The checked-in object; `cargo xtask ebpf build` makes it, its manifest says from what.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../lb-ebpf/prebuilt/hotlb.bpf.o"
));

/// What `cargo xtask ebpf build` wrote of it.
static MANIFEST: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../lb-ebpf/prebuilt/manifest.toml"
));

/// The object's digest, or rather its first 64 bits.
pub(super) fn digest() -> u64 {
    let line = MANIFEST.lines().find_map(|l| l.strip_prefix("object = \""));
    let digits = line.and_then(|digits| digits.get(..16));
    let digest = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    // 0 means that nobody knows.
    digest.unwrap_or_default()
}

/// What aya finds in the object.
///
/// # Errors
///
/// When the build is broken.
pub(super) fn contents() -> Result<aya_obj::Object, DatapathError> {
    aya_obj::Object::parse(OBJECT).map_err(|error| DatapathError::Object(error.to_string()))
}

/// Loads the object for one reuseport group: the service's maps come from (or go to) `pins`,
/// the group's own to `group`.
pub(super) fn load(pins: &Pins, group: &Path, constants: Constants) -> Result<Ebpf, DatapathError> {
    let loaded = loaders::with(pins, group, constants, |loader| loader.load(OBJECT));
    Ok(loaded?)
}

/// Loads the object by a loader that knows what the profiler's programs need, without pins. They
/// use none of the agent's maps, which cannot be left out and are made as small as they can be.
pub(super) fn load_alone(mut loader: EbpfLoader<'_>) -> Result<Ebpf, DatapathError> {
    // The size of a ring is in pages, that of storage is not said.
    let as_they_are = [
        names::EVENTS,
        names::LOGS,
        names::CONVERSATIONS,
        names::WORKER,
        names::TRANSPARENT,
    ];
    for name in names::SHARED.iter().chain(&names::PER_GROUP) {
        if !as_they_are.contains(name) {
            loader.map_max_entries(name, 1);
        }
    }
    Ok(loader.load(OBJECT)?)
}

/// A map of an object that was loaded, to be kept.
pub(super) fn taken<T: TryFrom<Map, Error = MapError>>(
    object: &mut Ebpf,
    name: &'static str,
) -> Result<T, DatapathError> {
    let map = object.take_map(name).ok_or(DatapathError::Missing(name))?;
    T::try_from(map).map_err(DatapathError::map(name))
}

/// [`load`] for programs that cannot do without the kernel's fields: `polite`, `received`, `sent`.
pub(super) fn load_knowing(
    pins: &Pins,
    group: &Path,
    constants: Constants,
) -> Result<Ebpf, DatapathError> {
    need_fields()?;
    load(pins, group, constants)
}

fn need_fields() -> Result<(), DatapathError> {
    let fields = kernel_fields::tcp_fields();
    fields
        .map(drop)
        .map_err(|why| DatapathError::Types(why.to_owned()))
}

/// Loads the object without pins, for measurements and probes: it is gone with the value.
pub(super) fn load_unpinned() -> Result<Ebpf, EbpfError> {
    finish(unpinned())
}

/// The same, with programs of which the verifier says, where it is asked for its words, only what
/// they cost it.
pub(super) fn load_for_its_cost() -> Result<Ebpf, EbpfError> {
    let mut loader = unpinned();
    loader.verifier_log_level(VerifierLogLevel::STATS);
    finish(loader)
}

/// Has the programs know the kernel's fields, and loads them. The loader has read all of the
/// kernel's types meanwhile: some 20 MB.
fn finish(mut loader: EbpfLoader<'_>) -> Result<Ebpf, EbpfError> {
    let _after = GivesBack::at_the_end();
    if let Ok(fields) = kernel_fields::tcp_fields() {
        for (name, at) in fields {
            loader.override_global(name, at, true);
        }
    }
    let loaded = loader.load(OBJECT);
    drop(loader);
    loaded
}

/// A loader whose constants leave no part of a program out, so that the verifier sees it all.
fn unpinned<'a>() -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    loader.override_global(names::PORT_BITS, &u64::MAX, true);
    loader.override_global(names::COUNTING, &1_u32, true);
    loader.override_global(names::TASK_FLAGS.0, kernel_fields::task_flags(), true);
    if let Ok(fields) = kernel_fields::packet_fields() {
        fields.set(&mut loader);
    }
    loader
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features;

    #[test]
    fn the_object_has_a_digest() {
        assert_ne!(digest(), 0);
        assert_ne!(digest(), lb_common::steering::BETWEEN);
    }

    #[test]
    fn the_object_has_every_map_and_program_by_its_name() {
        let object = aya_obj_names();
        for name in names::SHARED.iter().chain(&names::PER_GROUP) {
            assert!(object.contains(&(*name).to_owned()), "map {name}");
        }
        // What samples who waits is loaded by itself, and so is tried by nothing.
        for name in features::PROGRAMS.iter().chain(&[names::WAITING]) {
            assert!(object.contains(&(*name).to_owned()), "program {name}");
        }
    }

    /// Symbol names, found as strings: aya keeps its parser to itself.
    fn aya_obj_names() -> Vec<String> {
        OBJECT
            .split(|&byte| byte == 0)
            .filter_map(|bytes| std::str::from_utf8(bytes).ok())
            .map(str::to_owned)
            .collect()
    }
}
