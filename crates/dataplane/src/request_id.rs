//! A name for each request, by which its error page, its log line and the backend's own log find together.
//! It refuses to be secret or unguessable.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use http::HeaderValue;

/// Gives out request ids: 16 hexadecimal digits, none twice from one source.
#[derive(Debug)]
pub(crate) struct RequestIds {
    next: AtomicU64,
}

impl RequestIds {
    /// A source that begins somewhere else each time.
    pub(crate) fn new() -> Self {
        Self { next: AtomicU64::new(RandomState::new().hash_one(0u64)) }
    }

    pub(crate) fn next(&self) -> RequestId {
        RequestId(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// The name of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId(u64);

impl RequestId {
    pub(crate) fn header(self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 16];
        for (index, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[(self.0 >> (60 - 4 * index) & 15) as usize];
        }
        HeaderValue::from_bytes(&text).expect("hexadecimal digits are visible ASCII")
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_read_the_same_everywhere() {
        let ids = RequestIds::new();
        let (first, second) = (ids.next(), ids.next());
        assert_ne!(first, second);
        assert_eq!(first.header().to_str().unwrap(), first.to_string());
        assert_eq!(first.to_string().len(), 16);
    }
}
