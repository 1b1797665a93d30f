//! Where each HTTP/1 message of a byte stream ends, by the strict reading of RFC 9112 alone.
//!
//! Parsers forgive: one takes a bare LF for a line's end, another joins folded lines, a third prefers one of two
//! lengths. Whoever stands before or behind us may forgive differently, and then one message becomes two (request
//! smuggling). So what is ambiguous is refused here, before the parser that serves the request sees it.
//! It refuses to interpret anything but framing.

use memchr::memchr;

/// Longest line of a chunk's size, extensions included, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a line that doesn't end in CR LF")]
    BareLineEnd,
    #[error("a request line that isn't METHOD SP TARGET SP HTTP/1.x")]
    RequestLine,
    #[error("a folded header line")]
    Folded,
    #[error("a header line without a proper name and colon")]
    HeaderName,
    #[error("a Content-Length that is no number, or a second one")]
    ContentLength,
    #[error("a Transfer-Encoding other than a single `chunked` in HTTP/1.1")]
    TransferEncoding,
    #[error("Content-Length and Transfer-Encoding in one message")]
    BothLengths,
    #[error("a chunk whose size or end is malformed")]
    Chunk,
}

/// Which part of a message comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A request line, or the empty line that some clients send before it.
    Start,
    /// A header line, after what the ones before said of the body.
    Header(Lengths),
    /// This many bytes of body.
    Body(u64),
    /// The line with a chunk's size.
    ChunkSize,
    /// This many bytes of a chunk.
    ChunkData(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// A trailer line.
    Trailer,
}

/// What header lines have said of the body's length so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lengths {
    is_http_1_0: bool,
    content_length: Option<u64>,
    is_chunked: bool,
}

/// Follows one direction of a connection through its messages.
#[derive(Debug)]
pub(crate) struct Framing {
    part: Part,
}

impl Framing {
    pub(crate) const fn new() -> Self {
        Self { part: Part::Start }
    }

    /// Whether the next byte begins a message.
    pub(crate) const fn is_between_messages(&self) -> bool {
        matches!(self.part, Part::Start)
    }

    pub(crate) const fn is_in_head(&self) -> bool {
        matches!(self.part, Part::Start | Part::Header(_))
    }

    /// How many bytes may pass without being looked at.
    pub(crate) const fn unseen(&self) -> u64 {
        match self.part {
            Part::Body(left) => left,
            _ => 0,
        }
    }

    /// Notes that unseen bytes have passed: no more than [`Self::unseen`].
    pub(crate) fn pass(&mut self, count: usize) {
        if let Part::Body(left) = self.part {
            self.part = body(left - (count as u64).min(left));
        }
    }

    /// Follows the messages through `bytes`; answers how many of them are whole lines or body. The rest is to be
    /// given again with what comes after it. `searched` is how many of the first bytes are known to have no line end.
    pub(crate) fn scan(&mut self, bytes: &[u8], searched: usize) -> Result<usize, Violation> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if let Part::Body(left) | Part::ChunkData(left) = self.part {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let left = left - taken as u64;
                self.part = match self.part {
                    Part::ChunkData(_) if left == 0 => Part::ChunkEnd,
                    Part::ChunkData(_) => Part::ChunkData(left),
                    _ => body(left),
                };
                at += taken;
                continue;
            }
            let skip = if at == 0 { searched.min(rest.len()) } else { 0 };
            let Some(end) = memchr(b'\n', &rest[skip..]).map(|end| skip + end) else {
                if self.part == Part::ChunkSize && rest.len() > CHUNK_LINE_BYTES_MAX {
                    return Err(Violation::Chunk);
                }
                return Ok(at);
            };
            let line = rest[..end].strip_suffix(b"\r").ok_or(Violation::BareLineEnd)?;
            if line.iter().any(|byte| matches!(byte, b'\r' | b'\0')) {
                return Err(Violation::BareLineEnd);
            }
            self.part = self.after(line)?;
            at += end + 1;
        }
        Ok(at)
    }

    fn after(&self, line: &[u8]) -> Result<Part, Violation> {
        match self.part {
            Part::Start if line.is_empty() => Ok(Part::Start),
            Part::Start => request_line(line).map(Part::Header),
            Part::Header(lengths) if line.is_empty() => match lengths {
                Lengths { is_chunked: true, .. } => Ok(Part::ChunkSize),
                Lengths { content_length, .. } => Ok(body(content_length.unwrap_or(0))),
            },
            Part::Header(lengths) => header_line(lengths, line).map(Part::Header),
            Part::ChunkSize => chunk_size(line),
            Part::ChunkEnd if line.is_empty() => Ok(Part::ChunkSize),
            Part::ChunkEnd => Err(Violation::Chunk),
            Part::Trailer if line.is_empty() => Ok(Part::Start),
            Part::Trailer => trailer(line),
            Part::Body(_) | Part::ChunkData(_) => unreachable!("bodies have no lines"),
        }
    }
}

const fn body(left: u64) -> Part {
    if left == 0 { Part::Start } else { Part::Body(left) }
}

/// RFC 9112 §3: exactly two spaces, and no other white space.
fn request_line(line: &[u8]) -> Result<Lengths, Violation> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next()) else {
        return Err(Violation::RequestLine);
    };
    let is_visible = |byte: &u8| *byte > b' ' && *byte != 0x7f;
    if method.is_empty()
        || !method.iter().all(is_token_byte)
        || target.is_empty()
        || !target.iter().all(is_visible)
    {
        return Err(Violation::RequestLine);
    }
    match version {
        b"HTTP/1.1" => Ok(Lengths::default()),
        b"HTTP/1.0" => Ok(Lengths { is_http_1_0: true, ..Lengths::default() }),
        _ => Err(Violation::RequestLine),
    }
}

/// RFC 9112 §5 and §6.3.
fn header_line(mut lengths: Lengths, line: &[u8]) -> Result<Lengths, Violation> {
    let (name, value) = field(line)?;
    if name.eq_ignore_ascii_case(b"content-length") {
        if lengths.content_length.is_some() {
            return Err(Violation::ContentLength);
        }
        lengths.content_length = Some(number(value, 10).ok_or(Violation::ContentLength)?);
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        if lengths.is_chunked || lengths.is_http_1_0 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Violation::TransferEncoding);
        }
        lengths.is_chunked = true;
    }
    if lengths.is_chunked && lengths.content_length.is_some() {
        return Err(Violation::BothLengths);
    }
    Ok(lengths)
}

/// A trailer can't say how long a message is: its end has been found already (RFC 9110 §6.5.1).
fn trailer(line: &[u8]) -> Result<Part, Violation> {
    let (name, _) = field(line)?;
    let is_framing =
        name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding");
    if is_framing { Err(Violation::BothLengths) } else { Ok(Part::Trailer) }
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Violation::Folded);
    }
    let colon = memchr(b':', line).ok_or(Violation::HeaderName)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.is_empty() || !name.iter().all(is_token_byte) {
        return Err(Violation::HeaderName);
    }
    Ok((name, value))
}

/// RFC 9112 §7.1. Extensions mean nothing to us and pass.
fn chunk_size(line: &[u8]) -> Result<Part, Violation> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    match number(digits, 16).ok_or(Violation::Chunk)? {
        _ if line.len() > CHUNK_LINE_BYTES_MAX => Err(Violation::Chunk),
        0 => Ok(Part::Trailer),
        size => Ok(Part::ChunkData(size)),
    }
}

/// Digits and nothing else: no sign, no space, no prefix.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let is_digits = !text.is_empty() && text.chars().all(|digit| digit.is_digit(radix));
    if is_digits { u64::from_str_radix(text, radix).ok() } else { None }
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

#[cfg(test)]
mod tests;
