//! A server without a UDP socket where it should have one.

use std::{
    fmt::{Display, Formatter, Result},
    net::SocketAddr,
};

/// Where it should have one, and where it has some.
#[derive(Debug)]
pub struct Unbound {
    address: SocketAddr,
    found: Vec<String>,
}

impl Unbound {
    /// None at `address`, but where `found` says.
    pub(in crate::agent) fn new(address: SocketAddr, found: Vec<String>) -> Self {
        Self { address, found }
    }

    /// Whether it has none at all.
    pub(in crate::agent) const fn has_none(&self) -> bool {
        self.found.is_empty()
    }
}

impl Display for Unbound {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "bound to {}; ", self.address)?;
        if self.has_none() {
            return f.write_str("it has none at all");
        }
        write!(f, "it has {}", self.found.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_where_it_has_some() {
        let address = SocketAddr::from(([0, 0, 0, 0], 53));
        let none = Unbound::new(address, Vec::new());
        assert_eq!(none.to_string(), "bound to 0.0.0.0:53; it has none at all");
        let found = ["127.0.0.1:53", "[::1]:53"].map(str::to_owned);
        let some = Unbound::new(address, found.into());
        assert_eq!(
            some.to_string(),
            "bound to 0.0.0.0:53; it has 127.0.0.1:53, [::1]:53"
        );
    }
}
