//! Which version of the link protocol two builds speak with each other.
//!
//! A field that is added with a default needs no new version. A message that an older peer must not miss raises
//! [`PROTO_MAX`]; dropping support for an old release raises [`PROTO_MIN`].

/// Oldest version that this build speaks.
pub const PROTO_MIN: u16 = 1;
/// Newest version that this build speaks.
pub const PROTO_MAX: u16 = 1;

/// An inclusive range of versions, as `Bootstrap` and `Hello` carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: u16,
    pub max: u16,
}

/// What this build speaks.
pub const OURS: Range = Range { min: PROTO_MIN, max: PROTO_MAX };

/// The two ranges do not meet: one of the executables is from another release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "link protocol {}-{} of this build does not meet {}-{} of its peer: install both executables from one release and restart the gateway",
    ours.min, ours.max, theirs.min, theirs.max
)]
pub struct VersionSkew {
    pub ours: Range,
    pub theirs: Range,
}

/// The newest version that both sides speak.
pub fn negotiate(ours: Range, theirs: Range) -> Result<u16, VersionSkew> {
    let newest = ours.max.min(theirs.max);
    let oldest = ours.min.max(theirs.min);
    if newest >= oldest { Ok(newest) } else { Err(VersionSkew { ours, theirs }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_the_newest_common_version() {
        let range = |min, max| Range { min, max };
        assert_eq!(negotiate(range(1, 3), range(2, 5)), Ok(3));
        assert_eq!(negotiate(range(2, 2), range(1, 9)), Ok(2));
        assert!(negotiate(range(1, 2), range(3, 4)).is_err());
        assert!(negotiate(range(3, 4), range(1, 2)).is_err());
    }

    proptest! {
        #[test]
        fn the_result_lies_in_both_ranges_and_is_symmetric(a in 0u16..9, b in 0u16..9, c in 0u16..9, d in 0u16..9) {
            let (x, y) = (Range { min: a.min(b), max: a.max(b) }, Range { min: c.min(d), max: c.max(d) });
            let found = negotiate(x, y);
            prop_assert_eq!(found.clone().ok(), negotiate(y, x).ok());
            let common = (x.min..=x.max).filter(|v| (y.min..=y.max).contains(v)).max();
            prop_assert_eq!(found.ok(), common);
        }
    }
}
