//! What strangers wrote, made fit for a message: short, on one line, and without the control characters that would
//! steer a terminal or turn the text around.

/// Most characters shown of one text.
const LEN_MAX: usize = 200;

/// Makes a text fit to be shown.
pub fn shown(text: &str) -> String {
    let words = text.split_whitespace().flat_map(|word| [" ", word]).skip(1);
    let mut shown: String = words
        .flat_map(str::chars)
        .filter(|&c| !c.is_control() && !is_steering(c))
        .take(LEN_MAX + 1)
        .collect();
    if let Some((cut, _)) = shown.char_indices().nth(LEN_MAX) {
        shown.truncate(cut);
        shown.push('…');
    }
    shown
}

/// Whether a character changes how those around it are shown: direction marks (Unicode TR 9), zero-width characters.
const fn is_steering(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Makes bytes that should be text fit to be shown.
pub fn shown_bytes(bytes: &[u8]) -> String {
    // A character has at most four bytes: what comes after these can't be shown anyway.
    let start = &bytes[..bytes.len().min(4 * (LEN_MAX + 1))];
    shown(&String::from_utf8_lossy(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stay_short_and_harmless() {
        assert_eq!(shown("slow\n down\t\u{1b}[2J"), "slow down [2J");
        assert_eq!(shown("exe\u{202e}txt.\u{200b}\u{2066}"), "exetxt.");
        assert_eq!(shown(&"ä".repeat(1000)), format!("{}…", "ä".repeat(200)));
        assert_eq!(shown_bytes(&[b'a', 0xff, 0x1b]), "a\u{fffd}");
        assert_eq!(shown_bytes("ä".repeat(1_000_000).as_bytes()).chars().count(), 201);
    }
}
