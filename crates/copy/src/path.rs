//! The name of a layer's member, as a path below the layer's root. It refuses every name with `..`, and names longer
//! or deeper than Linux or honest images have them; a leading `/` means the layer's root.

/// Longest path, in bytes: Linux's `PATH_MAX` without its final NUL.
const PATH_LEN_MAX: usize = 4095;
/// Longest component, in bytes: Linux's `NAME_MAX`.
const COMPONENT_LEN_MAX: usize = 255;
/// Most components of a path.
pub const DEPTH_MAX: usize = 256;

/// Why a member's name or hardlink target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component is `..`.
    #[error("it climbs out with `..`")]
    Climbs,
    /// It has a NUL byte.
    #[error("it has a NUL byte")]
    Nul,
    /// It is over [`PATH_LEN_MAX`], or a component over [`COMPONENT_LEN_MAX`].
    #[error("it is too long")]
    TooLong,
    /// It has over [`DEPTH_MAX`] components.
    #[error("it is nested too deeply")]
    TooDeep,
}

/// A path below a layer's root: no `.`, no `..`, no leading, doubled or trailing slash. Empty means the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberPath(Vec<u8>);

impl MemberPath {
    /// Reads a name as tar files have it.
    ///
    /// # Errors
    /// [`PathError`] for names that no honest layer has.
    pub fn parse(raw: &[u8]) -> Result<Self, PathError> {
        if raw.contains(&0) {
            return Err(PathError::Nul);
        }
        let mut path = Vec::with_capacity(raw.len().min(PATH_LEN_MAX));
        let components = raw.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
        for (depth, component) in components.enumerate() {
            if component == b".." {
                return Err(PathError::Climbs);
            }
            if depth >= DEPTH_MAX {
                return Err(PathError::TooDeep);
            }
            if depth > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(component);
            if component.len() > COMPONENT_LEN_MAX || path.len() > PATH_LEN_MAX {
                return Err(PathError::TooLong);
            }
        }
        Ok(Self(path))
    }

    /// Directory and name; `None` for the root itself. The directory is empty for members of the root.
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => Some((&self.0[..slash], &self.0[slash + 1..])),
            None if self.0.is_empty() => None,
            None => Some((b"", &self.0)),
        }
    }

    /// The path itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(raw: &str) -> Result<String, PathError> {
        MemberPath::parse(raw.as_bytes()).map(|path| String::from_utf8(path.0).unwrap())
    }

    #[test]
    fn names_are_brought_below_the_root() {
        for (raw, clean) in [
            ("etc/passwd", "etc/passwd"),
            ("./etc/", "etc"),
            ("/etc//passwd", "etc/passwd"),
            ("a/./b", "a/b"),
            ("./", ""),
            ("/", ""),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(parsed(raw).unwrap(), clean, "{raw}");
        }
    }

    #[test]
    fn names_that_climb_or_overflow_are_refused() {
        for raw in ["..", "../x", "a/../../x", "a/..", "/..", "a/../b"] {
            assert_eq!(parsed(raw), Err(PathError::Climbs), "{raw}");
        }
        assert_eq!(parsed("a\0b"), Err(PathError::Nul));
        assert_eq!(parsed(&"x".repeat(256)), Err(PathError::TooLong));
        assert_eq!(parsed(&format!("{}y", "xxxxxxxxxxxxxxxxxxxx/".repeat(200))), Err(PathError::TooLong));
        assert_eq!(parsed(&"a/".repeat(257)), Err(PathError::TooDeep));
    }

    #[test]
    fn splitting_gives_directory_and_name() {
        let split = |raw: &str| {
            let path = MemberPath::parse(raw.as_bytes()).unwrap();
            path.split().map(|(dir, name)| (dir.to_vec(), name.to_vec()))
        };
        assert_eq!(split("a/b/c"), Some((b"a/b".to_vec(), b"c".to_vec())));
        assert_eq!(split("a"), Some((b"".to_vec(), b"a".to_vec())));
        assert_eq!(split("./"), None);
    }

    proptest! {
        #[test]
        fn no_name_leaves_the_root(raw in proptest::collection::vec(
            prop_oneof![Just(b'/'), Just(b'.'), Just(0u8), any::<u8>()], 0..64,
        )) {
            if let Ok(path) = MemberPath::parse(&raw) {
                prop_assert!(!path.0.starts_with(b"/") && !path.0.ends_with(b"/") && !path.0.contains(&0));
                if !path.0.is_empty() {
                    for component in path.0.split(|&b| b == b'/') {
                        prop_assert!(!matches!(component, b"" | b"." | b".."));
                    }
                }
                prop_assert_eq!(MemberPath::parse(&path.0), Ok(path.clone()), "parsing is idempotent");
            }
        }
    }
}
