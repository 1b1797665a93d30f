//! HTTP/1.1 for the API sockets of Firecracker and Cloud Hypervisor: one connection, one request, one bounded answer,
//! one deadline. Both serve it with the same small server, which sends no chunks, no redirects and no compression: who
//! sends such things is refused.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Instant,
};

use super::socket;

/// The most bytes of an answer's head.
const HEAD_LEN_MAX: usize = 8 * 1024;
/// The most headers of an answer.
const HEADERS_MAX: usize = 32;
/// The most bytes of an answer's body.
const BODY_LEN_MAX: usize = 1024 * 1024;
/// Bytes read at once.
const READ_LEN_MAX: usize = 4096;

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Put,
    Patch,
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The body, as sent.
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// Nobody listens at the socket.
    #[error("{} can't be connected to", .0.display())]
    Connect(PathBuf, #[source] io::Error),
    /// The deadline passed, wherever the exchange was.
    #[error("no answer came in time")]
    Late,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// It ended within an answer.
    #[error("the answer was cut off")]
    Cut,
    /// Not HTTP/1.x.
    #[error("the answer is not HTTP")]
    Malformed,
    /// More than it may be.
    #[error("the answer's {what} is longer than {len_max} bytes")]
    TooLong {
        /// Head or body.
        what: &'static str,
        /// How long it may be.
        len_max: usize,
    },
    /// A form of body that neither monitor sends.
    #[error("the answer's body has no plain length")]
    NoLength,
}

impl Method {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }
}

/// Sends a request to the server that listens at `path`, and reads its answer until `deadline`.
pub(super) fn call(
    path: &Path,
    method: Method,
    target: &str,
    body: Option<&[u8]>,
    deadline: Instant,
) -> Result<Answer, HttpError> {
    let stream = socket::connect(path, deadline).map_err(|error| match failed(error) {
        HttpError::Broken(error) => HttpError::Connect(path.to_owned(), error),
        error => error,
    })?;
    exchange(&stream, method, target, body, deadline)
}

fn exchange(
    mut stream: &UnixStream,
    method: Method,
    target: &str,
    body: Option<&[u8]>,
    deadline: Instant,
) -> Result<Answer, HttpError> {
    let mut request =
        format!("{} {target} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n", method.name());
    if let Some(body) = body {
        request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    let bytes = [request.as_bytes(), body.unwrap_or_default()].concat();
    stream.set_write_timeout(Some(left(deadline)?)).map_err(HttpError::Broken)?;
    stream.write_all(&bytes).map_err(failed)?;
    let mut received = Vec::new();
    let head = loop {
        if let Some(head) = parse(&received)? {
            break head;
        }
        if received.len() > HEAD_LEN_MAX {
            return Err(HttpError::TooLong { what: "head", len_max: HEAD_LEN_MAX });
        }
        read_more(stream, &mut received, deadline)?;
    };
    let end = head.len + head.body_len;
    while received.len() < end {
        read_more(stream, &mut received, deadline)?;
    }
    received.truncate(end);
    Ok(Answer { status: head.status, body: received.split_off(head.len) })
}

/// The deadline is the whole exchange's: who sends a byte now and then doesn't gain time.
fn read_more(mut stream: &UnixStream, received: &mut Vec<u8>, deadline: Instant) -> Result<(), HttpError> {
    stream.set_read_timeout(Some(left(deadline)?)).map_err(HttpError::Broken)?;
    let mut buffer = [0; READ_LEN_MAX];
    match stream.read(&mut buffer) {
        Ok(0) => Err(HttpError::Cut),
        Ok(len) => {
            received.extend_from_slice(&buffer[..len]);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn left(deadline: Instant) -> Result<std::time::Duration, HttpError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(HttpError::Late) } else { Ok(left) }
}

fn failed(error: io::Error) -> HttpError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HttpError::Late,
        _ => HttpError::Broken(error),
    }
}

/// What the head of an answer says.
struct Head {
    len: usize,
    status: u16,
    body_len: usize,
}

/// The head, once it is there as a whole.
fn parse(received: &[u8]) -> Result<Option<Head>, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(received) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(HttpError::Malformed),
    };
    let status = response.code.filter(|code| (200..600).contains(code)).ok_or(HttpError::Malformed)?;
    let mut body_len = None;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(HttpError::NoLength);
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let digits = Some(header.value).filter(|value| value.iter().all(u8::is_ascii_digit));
            let text = digits.and_then(|value| std::str::from_utf8(value).ok());
            let value: usize = text.and_then(|text| text.parse().ok()).ok_or(HttpError::Malformed)?;
            if body_len.replace(value).is_some_and(|before| before != value) {
                return Err(HttpError::Malformed);
            }
        }
    }
    // The server that both are built on leaves out the length of an empty body, and keeps the connection.
    let body_len = body_len.unwrap_or(0);
    if body_len > BODY_LEN_MAX {
        return Err(HttpError::TooLong { what: "body", len_max: BODY_LEN_MAX });
    }
    Ok(Some(Head { len, status, body_len }))
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    /// The request that was sent, and what became of the answer.
    fn answered(answer: Vec<u8>, body: Option<&[u8]>) -> (String, Result<Answer, HttpError>) {
        let (client, mut server) = UnixStream::pair().unwrap();
        let writer = thread::spawn(move || {
            // The client hangs up on what it refuses.
            let _ = server.write_all(&answer).and_then(|()| server.shutdown(std::net::Shutdown::Write));
            let mut request = String::new();
            server.read_to_string(&mut request).unwrap();
            request
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        let result = exchange(&client, Method::Put, "/actions", body, deadline);
        drop(client);
        (writer.join().unwrap(), result)
    }

    #[test]
    fn a_request_is_sent_and_its_answer_read() {
        let (request, answer) =
            answered(b"HTTP/1.1 400 \r\nContent-length: 2\r\n\r\n{}rest".to_vec(), Some(b"{1}"));
        assert_eq!(answer.unwrap(), Answer { status: 400, body: b"{}".to_vec() });
        assert!(request.starts_with("PUT /actions HTTP/1.1\r\nHost: localhost\r\n"), "{request}");
        assert!(
            request.contains("\r\nContent-Length: 3\r\n") && request.ends_with("\r\n\r\n{1}"),
            "{request}"
        );
        let (request, answer) = answered(b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n".to_vec(), None);
        assert_eq!(answer.unwrap(), Answer { status: 204, body: Vec::new() });
        assert!(!request.contains("Content"), "{request}");
    }

    #[test]
    fn hostile_answers_are_refused() {
        let refused = |answer: &[u8]| answered(answer.to_vec(), None).1.unwrap_err();
        let endless = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 1 << 20]].concat();
        assert!(matches!(refused(&endless), HttpError::TooLong { what: "head", .. }));
        let huge = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n";
        assert!(matches!(refused(huge), HttpError::TooLong { what: "body", .. }));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(matches!(refused(chunked), HttpError::NoLength));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(HEADERS_MAX + 1));
        for bad in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.1 999 Odd\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            &many,
        ] {
            assert!(matches!(refused(bad.as_bytes()), HttpError::Malformed), "{bad}");
        }
        for cut in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"] {
            assert!(matches!(refused(cut.as_bytes()), HttpError::Cut), "{cut}");
        }
    }

    #[test]
    fn a_server_that_drips_or_is_silent_is_late() {
        let (client, mut server) = UnixStream::pair().unwrap();
        let deadline = Instant::now() + Duration::from_millis(200);
        let dripping = thread::spawn(move || {
            while server.write_all(b"a").is_ok() {
                thread::yield_now();
            }
        });
        let result = exchange(&client, Method::Get, "/", None, deadline);
        drop(client);
        dripping.join().unwrap();
        assert!(matches!(result, Err(HttpError::Malformed | HttpError::Late | HttpError::TooLong { .. })));
        let (client, _server) = UnixStream::pair().unwrap();
        let deadline = Instant::now() + Duration::from_millis(50);
        assert!(matches!(exchange(&client, Method::Get, "/", None, deadline), Err(HttpError::Late)));
        assert!(matches!(exchange(&client, Method::Get, "/", None, Instant::now()), Err(HttpError::Late)));
    }
}
