//! Environments of processes: names and values as the system has them, which need not be UTF-8.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::os_text::Written;

/// A process's variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// This process's own.
    pub fn own() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.insert(name.into(), value.into());
    }

    /// Removes a variable.
    pub fn unset(&mut self, name: &str) {
        self.0.remove(OsStr::new(name));
    }

    /// All variables.
    pub fn iter(&self) -> std::collections::btree_map::Iter<'_, OsString, OsString> {
        self.0.iter()
    }

    /// Keeps the variables whose names `wanted` approves of.
    pub fn retain(&mut self, wanted: impl Fn(&OsStr) -> bool) {
        self.0.retain(|name, _| wanted(name));
    }
}

impl<N: Into<OsString>, V: Into<OsString>> Extend<(N, V)> for Environment {
    fn extend<T: IntoIterator<Item = (N, V)>>(&mut self, variables: T) {
        let variables = variables.into_iter();
        self.0
            .extend(variables.map(|(name, value)| (name.into(), value.into())));
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(variables: T) -> Self {
        let mut environment = Self::default();
        environment.extend(variables);
        environment
    }
}

impl<'a> IntoIterator for &'a Environment {
    type Item = (&'a OsString, &'a OsString);
    type IntoIter = std::collections::btree_map::Iter<'a, OsString, OsString>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for Environment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let written = |name: &OsString| Written::of(name);
        to.collect_seq(
            self.0
                .iter()
                .map(|(name, value)| (written(name), written(value))),
        )
    }
}

impl<'de> Deserialize<'de> for Environment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let variables = Vec::<(Written, Written)>::deserialize(from)?;
        let read = |(name, value): (Written, Written)| (name.read(), value.read());
        Ok(variables.into_iter().map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn what_is_not_utf_8_survives() {
        let value = OsStr::from_bytes(b"caf\xe9");
        let mut environment: Environment = [("PATH", "/bin"), ("A", "1")].into_iter().collect();
        environment.set("BAD", value);
        environment.unset("A");
        let text = serde_json::to_vec(&environment).unwrap();
        let read: Environment = serde_json::from_slice(&text).unwrap();
        assert_eq!(read, environment);
        assert_eq!(read.get("BAD"), Some(value));
        assert_eq!(read.get("A"), None);
    }
}
