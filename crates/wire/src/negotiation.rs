//! Which generation of the protocol two peers speak. Each says its oldest and newest; the lower of the two newest is
//! used. It refuses to guess: peers without a common generation part.
//!
//! A generation is a set of message types. It is closed by the release that ships it; what comes later opens the next
//! one, so that whoever is about to send something can know whether the peer has ever heard of it
//! (docs/decisions/0031).

use crate::message::Hello;

/// With which message type each generation begins, generation 1 first. Types are only ever appended, so everything
/// below the next beginning belongs to it.
const FIRST_TYPES: [u16; 2] = [1, 21];

/// The oldest generation this crate speaks.
pub const OLDEST: u8 = 1;
/// The newest generation this crate speaks.
pub const NEWEST: u8 = FIRST_TYPES.len() as u8;

const _: () = assert!(OLDEST <= NEWEST && FIRST_TYPES.len() <= u8::MAX as usize);

/// The generation that brought messages of this type: the oldest that a peer has to speak to know them.
#[must_use]
pub const fn generation_of(number: u16) -> u8 {
    let mut generation = NEWEST;
    while generation > OLDEST && number < FIRST_TYPES[generation as usize - 1] {
        generation -= 1;
    }
    generation
}

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
        assert_eq!(negotiate(greeting(), hello(1, 1)), Ok(1));
        for (ours, theirs) in
            [(hello(1, 1), hello(2, 3)), (hello(3, 4), hello(1, 2)), (hello(1, 5), hello(4, 2))]
        {
            assert_eq!(negotiate(ours, theirs), Err(Incompatible { ours, theirs }));
        }
    }

    #[test]
    fn what_a_generation_was_released_with_stays_in_it() {
        // Generation 1 was closed with 20 types. When a release has shipped generation 2, its last type goes here too.
        for (number, generation) in [(1, 1), (20, 1), (21, 2)] {
            assert_eq!(generation_of(number), generation, "type {number}");
        }
    }
}
