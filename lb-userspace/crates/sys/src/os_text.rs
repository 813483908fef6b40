//! Names of the operating system in JSON. They are bytes: text where they are UTF-8, else a list
//! of numbers, so that nothing is lost and nothing fails.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name as JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Written {
    Text(String),
    Bytes(Vec<u8>),
}

impl Written {
    pub(super) fn of(name: &OsStr) -> Self {
        name.to_str().map_or_else(
            || Self::Bytes(name.as_bytes().to_vec()),
            |text| Self::Text(text.to_owned()),
        )
    }

    pub(super) fn read(self) -> OsString {
        match self {
            Self::Text(text) => text.into(),
            Self::Bytes(bytes) => OsString::from_vec(bytes),
        }
    }
}

/// For `#[serde(with)]`.
pub fn serialize<S: Serializer>(name: &impl AsRef<OsStr>, to: S) -> Result<S::Ok, S::Error> {
    Written::of(name.as_ref()).serialize(to)
}

/// For `#[serde(with)]`.
pub fn deserialize<'de, T: From<OsString>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Written::deserialize(from).map(|written| written.read().into())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Record {
        #[serde(with = "super")]
        path: PathBuf,
    }

    #[test]
    fn text_stays_text_and_bytes_are_kept() {
        let read = |text: &str| serde_json::from_str::<Record>(text).unwrap();
        let plain = Record {
            path: "/srv/café".into(),
        };
        assert_eq!(read("{\"path\":\"/srv/café\"}"), plain);
        assert_eq!(
            serde_json::to_string(&plain).unwrap(),
            "{\"path\":\"/srv/café\"}"
        );
        let bytes = Record {
            path: OsString::from_vec(b"/srv/caf\xe9".to_vec()).into(),
        };
        assert_eq!(read(&serde_json::to_string(&bytes).unwrap()), bytes);
    }
}
