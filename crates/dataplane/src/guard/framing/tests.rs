//! Messages whole, in pieces, and in doubt.

use super::*;

/// Reads `text` in pieces of `size` bytes, as they could arrive.
fn read(text: &[u8], size: usize) -> Result<Framing, Violation> {
    let (mut framing, mut held, mut searched) = (Framing::new(), Vec::new(), 0);
    for piece in text.chunks(size) {
        held.extend_from_slice(piece);
        let taken = framing.scan(&held, searched)?;
        held.drain(..taken);
        searched = held.len();
    }
    Ok(framing)
}

fn refused(text: &str) -> Violation {
    let violation = read(text.as_bytes(), usize::MAX).expect_err(text);
    for size in [1, 2, 7] {
        assert_eq!(read(text.as_bytes(), size).expect_err(text), violation, "{text:?} in pieces of {size}");
    }
    violation
}

#[test]
fn whole_messages_end_where_they_say() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.0\r\n\r\nGET /2 HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n\n\n\n\n\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nab\ncd\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\n\r\nA;x=y\r\n0123456789\r\n0\r\nSum: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ] {
        for size in [1, 2, 3, 7, usize::MAX] {
            let framing = read(text.as_bytes(), size).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert!(framing.is_between_messages(), "{text:?} in pieces of {size}: {framing:?}");
        }
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let head = |lines: &str| refused(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"));
    assert_eq!(head("Content-Length: 1\r\nTransfer-Encoding: chunked"), Violation::BothLengths);
    assert_eq!(head("Transfer-Encoding: chunked\r\nContent-Length: 1"), Violation::BothLengths);
    assert_eq!(head("Content-Length: 1\r\nContent-Length: 1"), Violation::ContentLength);
    for value in ["", "+1", "-1", "0x1", "1, 1", "1 1", "18446744073709551616", "\u{0661}"] {
        assert_eq!(head(&format!("Content-Length: {value}")), Violation::ContentLength, "{value}");
    }
    for value in ["gzip", "chunked, chunked", "xchunked", "identity", "", "chunked;q=1", "\x0bchunked"] {
        assert_eq!(head(&format!("Transfer-Encoding: {value}")), Violation::TransferEncoding, "{value}");
    }
    assert_eq!(head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), Violation::TransferEncoding);
    assert_eq!(head("A: b\r\n c"), Violation::Folded);
    assert_eq!(head("A: b\nContent-Length: 3"), Violation::BareLineEnd);
    assert_eq!(head("A: b\rContent-Length: 3"), Violation::BareLineEnd);
    assert_eq!(head("A: \0"), Violation::BareLineEnd);
    for line in
        ["Content-Length : 3", "Transfer-Encoding\t: chunked", "nocolon", ": x", "A B: c", "\u{e9}: x"]
    {
        assert_eq!(head(line), Violation::HeaderName, "{line}");
    }
}

#[test]
fn request_lines_have_one_form() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET /a b HTTP/1.1",
        " GET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET / http/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET  HTTP/1.1",
    ] {
        assert_eq!(refused(&format!("{line}\r\n\r\n")), Violation::RequestLine, "{line}");
    }
    assert_eq!(refused("GET / HTTP/1.1\n\n"), Violation::BareLineEnd);
    assert_eq!(refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Violation::TransferEncoding);
}

#[test]
fn chunks_are_exactly_as_long_as_they_say() {
    let body =
        |chunks: &str| refused(&format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
    for chunks in
        ["x\r\n", "-1\r\n", "0x1\r\n", " 1\r\n", "\r\n", "11111111111111111\r\n", "3\r\nabcd\r\n", "1 \r\n"]
    {
        assert_eq!(body(chunks), Violation::Chunk, "{chunks:?}");
    }
    assert_eq!(body("3\nabc\r\n"), Violation::BareLineEnd);
    assert_eq!(body("0\r\nContent-Length: 3\r\n\r\n"), Violation::BothLengths);
    assert_eq!(body(&format!("1;{}", "x".repeat(300))), Violation::Chunk);
}

#[test]
fn a_body_passes_unseen_up_to_its_end() {
    let mut framing = read(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", usize::MAX).unwrap();
    assert_eq!(framing.unseen(), 7);
    framing.pass(7);
    assert!(framing.is_between_messages());
}
