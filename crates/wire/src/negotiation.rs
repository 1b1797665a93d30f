//! Which generation of the protocol two peers speak. Each says its oldest and newest; the lower of the two newest is
//! used. It refuses to guess: peers without a common generation part.

use crate::message::Hello;

/// The oldest generation this crate speaks.
pub const OLDEST: u8 = 1;
/// The newest generation this crate speaks.
pub const NEWEST: u8 = 1;

const _: () = assert!(OLDEST <= NEWEST);

/// Two peers without a common generation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no common protocol generation: we speak {} to {}, the peer {} to {}",
    ours.version_min, ours.version_max, theirs.version_min, theirs.version_max
)]
pub struct Incompatible {
    /// What we said.
    pub ours: Hello,
    /// What the peer said.
    pub theirs: Hello,
}

/// The greeting of this crate's version.
#[must_use]
pub const fn greeting() -> Hello {
    Hello { version_min: OLDEST, version_max: NEWEST }
}

/// The generation that both peers speak, the newest there is.
///
/// # Errors
/// [`Incompatible`] when the ranges don't meet, or the peer's is turned around.
pub fn negotiate(ours: Hello, theirs: Hello) -> Result<u8, Incompatible> {
    let newest = ours.version_max.min(theirs.version_max);
    let oldest = ours.version_min.max(theirs.version_min);
    let is_range = theirs.version_min <= theirs.version_max;
    if is_range && oldest <= newest { Ok(newest) } else { Err(Incompatible { ours, theirs }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_generation_is_used() {
        let hello = |version_min, version_max| Hello { version_min, version_max };
        assert_eq!(negotiate(hello(1, 3), hello(2, 5)), Ok(3));
        assert_eq!(negotiate(hello(2, 5), hello(1, 3)), Ok(3));
        assert_eq!(negotiate(greeting(), greeting()), Ok(NEWEST));
        for (ours, theirs) in
            [(hello(1, 1), hello(2, 3)), (hello(3, 4), hello(1, 2)), (hello(1, 5), hello(4, 2))]
        {
            assert_eq!(negotiate(ours, theirs), Err(Incompatible { ours, theirs }));
        }
    }
}
