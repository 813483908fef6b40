//! Who serves after something failed.

use std::fmt;

/// Who serves after something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Now {
    /// Who did before.
    Untouched,
    /// It is still being undone.
    Undone,
    /// Who did before, again: "gen1 is active".
    Back(String),
    /// Nobody; so many clients wait.
    Nobody(u64),
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untouched => f.write_str("nothing else was changed"),
            Self::Undone => f.write_str("it is being rolled back"),
            Self::Back(who) => write!(f, "it was rolled back: {who}"),
            Self::Nobody(clients) => write!(
                f,
                "and no other generation is left: no generation is active, {clients} clients wait; \
                 deploy and promote one"
            ),
        }
    }
}
