//! The guest's agent behind the Unix socket of a monitor's vsock device: `CONNECT 9999` is answered by `OK` and a
//! number, and from there on every byte is the guest's (Firecracker's docs/vsock.md; Cloud Hypervisor does the same).
//! A guest that doesn't listen yet is a connection that ends without an answer.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use super::socket;

/// The port that the guest's agent listens on.
const PORT: u32 = 9999;
/// Longest answer, in bytes: `OK` and a number of 32 bits.
const ANSWER_LEN_MAX: usize = 16;
/// How long one attempt may take. A device that its guest hasn't found yet answers nothing at all.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(1);
/// The number by which the machine knows itself. Each has a socket of its own, so that all have the same.
pub(super) const GUEST_CID: u32 = 3;

/// Connects to the guest's agent, if it listens.
///
/// # Errors
/// The monitor doesn't listen, or its guest doesn't, or what was answered is something else.
pub(super) fn dial(path: &Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + ATTEMPT_TIME_MAX;
    let mut stream = socket::connect(path, deadline)?;
    stream.write_all(format!("CONNECT {PORT}\n").as_bytes())?;
    let mut answer = Vec::new();
    // Byte by byte: what follows is the guest's.
    while answer.last() != Some(&b'\n') {
        if answer.len() == ANSWER_LEN_MAX {
            return Err(garbage());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let number = answer.strip_prefix(b"OK ").and_then(|rest| rest.strip_suffix(b"\n"));
    if !number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit)) {
        return Err(garbage());
    }
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    Ok(stream)
}

fn garbage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the vsock device answered something else than OK")
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        os::unix::net::UnixListener,
        thread,
    };

    use super::*;

    /// What becomes of an attempt that is answered like this.
    fn answered(answer: &'static [u8]) -> io::Result<UnixStream> {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("vsock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            assert_eq!(line, "CONNECT 9999\n");
            stream.write_all(answer).unwrap();
        });
        let result = dial(&path);
        server.join().unwrap();
        result
    }

    #[test]
    fn what_follows_the_answer_is_the_guests() {
        let mut stream = answered(b"OK 1073741824\nhello").unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "hello");
    }

    #[test]
    fn anything_else_is_no_guest() {
        for answer in [
            &b""[..],
            b"OK",
            b"OK \n",
            b"OK x\n",
            b"NO 1\n",
            b"\n",
            b"OK 123456789012345678\n",
            b"HTTP/1.1 200 OK\r\n",
        ] {
            assert!(answered(answer).is_err(), "{}", String::from_utf8_lossy(answer));
        }
    }

    #[test]
    fn a_device_that_says_nothing_is_given_up() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("vsock");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = dial(&path).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    }
}
