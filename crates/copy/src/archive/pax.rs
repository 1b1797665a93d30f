//! PAX extended headers: the `LENGTH KEY=VALUE\n` records before a member (POSIX.1-2017, pax, "pax Extended Header").
//! Values may hold any byte, newlines included, as binary extended attributes do.

/// A PAX header that doesn't follow the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a PAX record is malformed")]
pub struct PaxError;

/// Key and value of one record.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The records of one extended header, in order; ends after the first malformed one.
#[derive(Debug)]
pub(super) struct PaxRecords<'a> {
    rest: &'a [u8],
}

impl<'a> PaxRecords<'a> {
    /// Reads the content of an `x` member.
    pub(super) fn new(content: &'a [u8]) -> Self {
        Self { rest: content }
    }

    fn split_record(&self) -> Option<(Record<'a>, &'a [u8])> {
        let space = self.rest.iter().position(|&b| b == b' ')?;
        let len: usize = std::str::from_utf8(&self.rest[..space]).ok()?.parse().ok()?;
        let record = self.rest.get(space + 1..len)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&b| b == b'=')?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        (!key.is_empty()).then_some(((key, value), &self.rest[len..]))
    }
}

impl<'a> Iterator for PaxRecords<'a> {
    type Item = Result<Record<'a>, PaxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match self.split_record() {
            Some((record, rest)) => {
                self.rest = rest;
                Some(Ok(record))
            }
            None => {
                self.rest = b"";
                Some(Err(PaxError))
            }
        }
    }
}

/// Reads a decimal value such as `uid` or `size`.
pub(super) fn parse_number(value: &[u8]) -> Result<u64, PaxError> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(PaxError)
}

/// Reads a time such as `1700000000.25` or `-1.5` as whole seconds (rounded down) and nanoseconds.
pub(super) fn parse_time(value: &[u8]) -> Result<(i64, u32), PaxError> {
    let text = std::str::from_utf8(value).map_err(|_| PaxError)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| PaxError)?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PaxError);
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| PaxError)?;
    if !whole.starts_with('-') || nanoseconds == 0 {
        return Ok((seconds, nanoseconds));
    }
    let seconds = seconds.checked_sub(1).ok_or(PaxError)?;
    Ok((seconds, 1_000_000_000 - nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(content: &[u8]) -> Result<Vec<Record<'_>>, PaxError> {
        PaxRecords::new(content).collect()
    }

    #[test]
    fn values_may_hold_newlines_spaces_and_equal_signs() {
        assert_eq!(
            records(b"18 path=some/file\n16 k=a\nb=c d\n\x00\xff\n5 e=\n").unwrap(),
            [(&b"path"[..], &b"some/file"[..]), (b"k", b"a\nb=c d\n\x00\xff"), (b"e", b"")],
        );
    }

    #[test]
    fn malformed_records_are_refused() {
        for content in
            [&b"x"[..], b"5 a=b", b"99 a=b\n", b"6 =bc\n", b"6 abc\n", b" a=b\n", b"2 a=b\n", b"-6 a=b\n"]
        {
            assert_eq!(records(content), Err(PaxError), "{content:?}");
        }
    }

    #[test]
    fn times_keep_their_fraction_also_before_1970() {
        for (text, time) in [
            ("1700000000", (1_700_000_000, 0)),
            ("1700000000.25", (1_700_000_000, 250_000_000)),
            ("0.1234567891", (0, 123_456_789)),
            ("-1.25", (-2, 750_000_000)),
            ("-3", (-3, 0)),
        ] {
            assert_eq!(parse_time(text.as_bytes()), Ok(time), "{text}");
        }
        for text in ["", "x", "1.x", "1e9", "--1", "1.-5"] {
            assert_eq!(parse_time(text.as_bytes()), Err(PaxError), "{text}");
        }
    }
}
