//! Cutting output into pieces that are text, without tearing characters that a read happened to split.
//! It refuses to alter a byte: what isn't UTF-8 goes on as it is.

/// Where to cut `bytes` so that a character that has only just begun at their end is kept for the next read. Their
/// whole length when they don't end so, or aren't text anyway.
pub(super) fn cut(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        // Incomplete, not wrong: at most three bytes, and something stands before them.
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_begun_character_is_kept_back() {
        for (bytes, at) in [
            (&b""[..], 0),
            (b"abc", 3),
            ("aé".as_bytes(), 3),
            (&"aé".as_bytes()[..2], 1),
            (&"a😀".as_bytes()[..4], 1),
            // A lone beginning is let go: it may never be finished.
            (&"é".as_bytes()[..1], 1),
            // Not text: nothing is gained by waiting.
            (b"\xff\xfea\xc3", 4),
            (b"a\xff", 2),
        ] {
            assert_eq!(cut(bytes), at, "{bytes:?}");
        }
    }
}
