//! Pure rules of authority: which scope covers which, and what a role may call.
//!
//! The table of methods and the scope that each one needs is in [`crate::rpc`].

/// Full power.
pub const ADMIN: &str = "operator.admin";
/// Look at things.
pub const READ: &str = "operator.read";
/// Send messages, start runs.
pub const WRITE: &str = "operator.write";
/// Decide on commands that agents ask for.
pub const APPROVALS: &str = "operator.approvals";
/// Let devices in.
pub const PAIRING: &str = "operator.pairing";

/// All scopes that the gateway itself knows, in the order clients print them.
pub const ALL: [&str; 5] = [ADMIN, READ, WRITE, APPROVALS, PAIRING];

/// `connect.params.role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A person or a program that controls the gateway.
    Operator,
    /// A machine that lends its abilities.
    Node,
}

impl Role {
    /// Absent means operator. `None` for anything else.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("operator") => Some(Self::Operator),
            Some("node") => Some(Self::Node),
            Some(_) => None,
        }
    }

    /// Text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Node => "node",
        }
    }
}

/// Whether the scopes that are held cover `needed`: admin covers all, write covers read.
pub fn covers(held: &[String], needed: &str) -> bool {
    held.iter().any(|s| {
        s == needed || (s == ADMIN && needed.starts_with("operator.")) || (s == WRITE && needed == READ)
    })
}

/// Whether every one of `needed` is covered.
pub fn covers_all(held: &[String], needed: &[String]) -> bool {
    needed.iter().all(|n| covers(held, n))
}

/// Sorted union without duplicates.
pub fn union(a: &[String], b: &[String]) -> Vec<String> {
    let mut all: Vec<String> = a.iter().chain(b).cloned().collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(scopes: &[&str]) -> Vec<String> {
        scopes.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn implications() {
        for needed in ALL {
            assert!(covers(&list(&[ADMIN]), needed), "{needed}");
            assert!(!covers(&[], needed), "{needed}");
        }
        assert!(covers(&list(&[WRITE]), READ));
        assert!(!covers(&list(&[READ]), WRITE));
        assert!(!covers(&list(&[PAIRING]), READ));
        assert!(!covers(&list(&[ADMIN]), "node.something"));
    }

    proptest! {
        #[test]
        fn more_scopes_never_mean_less(held in proptest::collection::vec(0..ALL.len(), 0..5), extra in 0..ALL.len(), needed in 0..ALL.len()) {
            let mut scopes: Vec<String> = held.iter().map(|i| ALL[*i].to_owned()).collect();
            let before = covers(&scopes, ALL[needed]);
            scopes.push(ALL[extra].to_owned());
            prop_assert!(!before || covers(&scopes, ALL[needed]));
        }
    }
}
