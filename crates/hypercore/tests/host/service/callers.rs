//! Callers that never pause: each opens a connection, waits for an answer, and begins anew. Whether a connection was
//! refused, cut after it was accepted, or answered is counted.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::program::until;

/// Callers of each kind.
const CALLERS: usize = 2;
/// How long an answer may take, a restart of the agent included.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// What became of the connections.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: usize,
    /// Accepted, and broken before the answer: the agent was killed meanwhile.
    pub(crate) cut: usize,
    pub(crate) refused: Vec<String>,
}

/// Callers of the HTTP address and of the API's socket.
pub(crate) struct Callers {
    is_over: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    threads: Vec<JoinHandle<()>>,
}

impl Callers {
    pub(crate) fn start(http: SocketAddr, api: &Path) -> Self {
        let mut callers = Self { is_over: Arc::default(), tally: Arc::default(), threads: Vec::new() };
        for _ in 0..CALLERS {
            callers.spawn(move || {
                let stream = TcpStream::connect(http)?;
                stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
                Ok((stream, &b"GET /healthz HTTP/1.0\r\n\r\n"[..]))
            });
            let api = api.to_owned();
            callers.spawn(move || {
                let stream = UnixStream::connect(&api)?;
                stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
                // The beginning of HTTP/2 (RFC 9113, section 3.4): the preface and empty settings.
                Ok((stream, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..]))
            });
        }
        callers
    }

    fn spawn<S: Read + Write>(
        &mut self,
        connect: impl Fn() -> io::Result<(S, &'static [u8])> + Send + 'static,
    ) {
        let (is_over, tally) = (Arc::clone(&self.is_over), Arc::clone(&self.tally));
        self.threads.push(thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let answered = connect().map(|(mut stream, question)| {
                    let mut answer = [0; 9];
                    stream.write_all(question).and_then(|()| stream.read_exact(&mut answer))
                });
                let mut tally = tally.lock().unwrap();
                match answered {
                    Ok(Ok(())) => tally.answered += 1,
                    Ok(Err(_)) => tally.cut += 1,
                    Err(error) => tally.refused.push(error.to_string()),
                }
            }
        }));
    }

    /// Waits until some more were answered.
    #[track_caller]
    pub(crate) fn wait_for_more(&self) {
        let answered = || self.tally.lock().unwrap().answered;
        let before = answered();
        assert!(until(|| (answered() >= before + 20).then_some(())).is_some(), "no answers any more");
    }

    /// Ends the callers and answers what became of their connections.
    pub(crate) fn stop(mut self) -> Tally {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        std::mem::take(&mut self.tally.lock().unwrap())
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
