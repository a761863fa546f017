//! Class guards: which queries a subnet or a pool is for (ALC-6, ha-protocol 5.10).
//!
//! The only classes there are, are those of high availability: each query is in the class `HA_<name>` of the server
//! whose it is. So a guard comes down to which of two scopes it lets in.

/// Whose a query is: the scope of the primary or, where two servers share the clients, of the secondary. Without
/// sharing, and without high availability, every query is the primary's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Scope {
    /// The primary's.
    #[default]
    Primary,
    /// The secondary's.
    Secondary,
}

impl Scope {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Primary, Self::Secondary];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Which scopes are let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Guard(u8);

impl Guard {
    /// No guard at all.
    pub const EVERYONE: Self = Self(Scope::Primary.bit() | Scope::Secondary.bit());
    /// Nobody is in the classes asked for.
    pub const NOBODY: Self = Self(0);

    /// Lets `scopes` in.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }

    /// Whether queries of `scope` are let in.
    pub const fn admits(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether nobody is kept out.
    pub const fn is_open(self) -> bool {
        self.0 == Self::EVERYONE.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_lets_in_what_it_names() {
        use Scope::{Primary, Secondary};
        let rows = [
            (Guard::EVERYONE, true, true),
            (Guard::of([Primary]), true, false),
            (Guard::of([Secondary]), false, true),
            (Guard::of(Scope::ALL), true, true),
            (Guard::NOBODY, false, false),
        ];
        for (guard, primary, secondary) in rows {
            assert_eq!((guard.admits(Primary), guard.admits(Secondary)), (primary, secondary), "{guard:?}");
            assert_eq!(guard.is_open(), primary && secondary, "{guard:?}");
        }
    }
}
