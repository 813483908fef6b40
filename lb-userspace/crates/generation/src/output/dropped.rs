//! What had to be given up of outputs: the logger writes it down, the agent says it.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::clock;

/// What was given up of a service's outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// How many bytes.
    pub bytes: u64,
    /// Of which generation, the last time.
    pub generation: String,
    /// Why, the last time.
    pub why: String,
    /// When that was, in seconds since boot.
    pub at: u64,
}

/// What the record at `path` says, by service.
pub fn dropped(path: &Path) -> BTreeMap<String, Dropped> {
    let text = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Adds to the record at `path`, which one process alone writes.
pub(super) fn add(
    path: &Path,
    (service, generation): (&str, &str),
    bytes: u64,
    why: &str,
) -> io::Result<()> {
    let mut all = dropped(path);
    let of = all.entry(service.to_owned()).or_default();
    *of = Dropped {
        bytes: of.bytes.saturating_add(bytes),
        generation: generation.to_owned(),
        why: why.to_owned(),
        at: clock::since_boot().as_secs(),
    };
    let new = path.with_extension("dropped.new");
    fs::write(&new, serde_json::to_vec(&all)?)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_adds_up_by_service() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output.dropped");
        assert!(dropped(&path).is_empty());
        add(&path, ("web", "a"), 10, "the disk is full").unwrap();
        add(&path, ("other", "a"), 5, "x").unwrap();
        add(&path, ("web", "b"), 7, "nobody wrote it").unwrap();
        let all = dropped(&path);
        let web = &all["web"];
        assert_eq!((web.bytes, web.generation.as_str()), (17, "b"));
        assert_eq!(web.why, "nobody wrote it");
        assert_eq!(all["other"].bytes, 5);
    }
}
