//! Frames: `[length u32 BE][stream id u32 BE][flags u8][payload]`, and an incremental decoder for them.
//! The length counts what follows it. It refuses to look into the payload: that is [`crate::message`]'s.

/// Largest length a frame may announce, in bytes.
pub const FRAME_LEN_MAX: usize = 256 * 1024;
/// What a frame's length counts besides the payload: stream id and flags, in bytes.
const OVERHEAD_LEN: usize = 5;
/// Bytes in front of a payload.
const HEADER_LEN: usize = 4 + OVERHEAD_LEN;
/// Largest payload, in bytes.
pub const PAYLOAD_LEN_MAX: usize = FRAME_LEN_MAX - OVERHEAD_LEN;
/// An idle decoder gives back memory beyond this, in bytes: a shim lives long and must stay small.
const IDLE_CAPACITY_MAX: usize = 4096;

const _: () = assert!(FRAME_LEN_MAX <= u32::MAX as usize && FRAME_LEN_MAX > OVERHEAD_LEN);

/// One of the streams of a connection. The client chooses the numbers, any but [`StreamId::CONNECTION`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The connection's own stream: greetings, and errors that end the connection.
    pub const CONNECTION: Self = Self(0);
}

/// Bits that mean something to the stream, whatever the message. Unknown bits are kept and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// Nothing special.
    pub const NONE: Self = Self(0);
    /// The sender sends nothing more on this stream.
    pub const END_STREAM: Self = Self(1);

    /// Whether the sender sends nothing more on this stream.
    #[must_use]
    pub const fn is_end(self) -> bool {
        self.0 & Self::END_STREAM.0 != 0
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its flags.
    pub flags: Flags,
    /// An encoded message, at most [`PAYLOAD_LEN_MAX`] bytes.
    pub payload: Vec<u8>,
}

/// Why bytes are not a frame. The connection is of no use after any of them: nobody knows where the next frame begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than allowed.
    #[error("a frame of {len} bytes is too long: at most {FRAME_LEN_MAX} are allowed")]
    TooLong {
        /// The length that was announced, or is to be sent, in bytes.
        len: usize,
    },
    /// Too short to hold stream id and flags.
    #[error("a frame of {len} bytes is too short: stream id and flags alone take {OVERHEAD_LEN}")]
    TooShort {
        /// The length that was announced, in bytes.
        len: usize,
    },
}

impl Frame {
    /// Appends the frame's bytes to `out`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when the payload is; nothing is appended then.
    pub fn encode_to(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let len = self.payload.len() + OVERHEAD_LEN;
        let announced = u32::try_from(len).ok().filter(|_| len <= FRAME_LEN_MAX);
        let announced = announced.ok_or(FrameError::TooLong { len })?;
        out.reserve(4 + len);
        out.extend_from_slice(&announced.to_be_bytes());
        out.extend_from_slice(&self.stream.0.to_be_bytes());
        out.push(self.flags.0);
        out.extend_from_slice(&self.payload);
        Ok(())
    }
}

/// Turns bytes, however they were cut, back into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// How many of `bytes` were already handed out as frames.
    taken: usize,
}

impl Decoder {
    /// A decoder at the beginning of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), taken: 0 }
    }

    /// Takes bytes that arrived. Call [`Self::next_frame`] until it has none before pushing more: the decoder holds
    /// what it was given.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] for an impossible length; every later call gives the same answer.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.bytes[self.taken..];
        let Some((announced, _)) = rest.split_first_chunk::<4>() else {
            self.release();
            return Ok(None);
        };
        let len = u32::from_be_bytes(*announced) as usize;
        if len > FRAME_LEN_MAX {
            return Err(FrameError::TooLong { len });
        }
        if len < OVERHEAD_LEN {
            return Err(FrameError::TooShort { len });
        }
        let Some(frame) = rest.get(4..4 + len) else { return Ok(None) };
        let (stream, flags) = ([frame[0], frame[1], frame[2], frame[3]], frame[4]);
        let frame = Frame {
            stream: StreamId(u32::from_be_bytes(stream)),
            flags: Flags(flags),
            payload: rest[HEADER_LEN..4 + len].to_vec(),
        };
        self.taken += 4 + len;
        Ok(Some(frame))
    }

    /// Whether the bytes so far end between two frames, as those of a connection that ended well do.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.taken == self.bytes.len()
    }

    fn release(&mut self) {
        if self.is_at_boundary() && self.bytes.capacity() > IDLE_CAPACITY_MAX {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: Vec<u8>) -> Frame {
        Frame { stream: StreamId(0x0102_0304), flags: Flags::END_STREAM, payload }
    }

    #[test]
    fn the_layout_is_the_one_that_was_promised() {
        let mut bytes = Vec::new();
        frame(vec![0xaa, 0xbb]).encode_to(&mut bytes).unwrap();
        assert_eq!(bytes, [0, 0, 0, 7, 1, 2, 3, 4, 1, 0xaa, 0xbb]);
    }

    #[test]
    fn a_frame_may_come_byte_by_byte() {
        let mut bytes = Vec::new();
        frame(vec![7; 300]).encode_to(&mut bytes).unwrap();
        let mut decoder = Decoder::new();
        for byte in &bytes[..bytes.len() - 1] {
            decoder.push(std::slice::from_ref(byte));
            assert_eq!(decoder.next_frame(), Ok(None));
            assert!(!decoder.is_at_boundary());
        }
        decoder.push(&bytes[bytes.len() - 1..]);
        assert_eq!(decoder.next_frame(), Ok(Some(frame(vec![7; 300]))));
        assert!(decoder.is_at_boundary());
    }

    #[test]
    fn the_largest_frame_passes_and_one_byte_more_does_not() {
        let mut bytes = Vec::new();
        let largest = frame(vec![0; PAYLOAD_LEN_MAX]);
        largest.encode_to(&mut bytes).unwrap();
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        assert_eq!(decoder.next_frame(), Ok(Some(largest)));

        let len = FRAME_LEN_MAX + 1;
        bytes.clear();
        assert_eq!(
            frame(vec![0; PAYLOAD_LEN_MAX + 1]).encode_to(&mut bytes),
            Err(FrameError::TooLong { len })
        );
        assert!(bytes.is_empty());
    }

    #[test]
    fn an_impossible_length_is_refused_before_its_bytes_come() {
        for (announced, error) in [
            (u32::MAX, FrameError::TooLong { len: u32::MAX as usize }),
            (4, FrameError::TooShort { len: 4 }),
            (0, FrameError::TooShort { len: 0 }),
        ] {
            let mut decoder = Decoder::new();
            decoder.push(&announced.to_be_bytes());
            assert_eq!(decoder.next_frame(), Err(error.clone()));
            decoder.push(&[0; 16]);
            assert_eq!(decoder.next_frame(), Err(error));
        }
    }

    #[test]
    fn memory_of_a_large_frame_is_given_back() {
        let mut bytes = Vec::new();
        frame(vec![0; 100_000]).encode_to(&mut bytes).unwrap();
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        assert!(matches!(decoder.next_frame(), Ok(Some(_))));
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.bytes.capacity(), 0);
    }
}
