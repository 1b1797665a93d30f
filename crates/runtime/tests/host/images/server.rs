//! A registry on loopback that answers as it was told: late, wrong, broken off or without end.

use std::{
    collections::{HashMap, VecDeque},
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use hypercore_fixtures::{Blob, OciImage};

/// Where the manifest of `app:1` is asked for.
pub(crate) const MANIFEST: &str = "/v2/app/manifests/1";

/// What the server does with one request.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What `Content-Length` says; the connection ends after `body` all the same.
    pub(crate) length: usize,
    /// Whether the body is sent over and over until the client leaves.
    pub(crate) is_endless: bool,
}

impl Answer {
    pub(crate) fn ok(body: Vec<u8>) -> Self {
        Self { status: 200, headers: Vec::new(), length: body.len(), body, is_endless: false }
    }
}

/// Answers by path: one after another, the last one again and again.
#[derive(Default)]
pub(crate) struct Script {
    /// `http://HOST:PORT` of the server itself.
    pub(crate) url: String,
    answers: HashMap<String, VecDeque<Answer>>,
    requests: Vec<String>,
}

impl Script {
    /// Replaces the answer to a path.
    pub(crate) fn set(&mut self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.answers.insert(path.to_owned(), answers.into_iter().collect());
    }

    /// The answer to a path, to be changed.
    pub(crate) fn get(&mut self, path: &str) -> &mut Answer {
        &mut self.answers.get_mut(path).unwrap()[0]
    }

    fn answer(&mut self, request: String) -> Answer {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        let answers = self.answers.get_mut(path);
        let answer =
            answers.and_then(|all| if all.len() > 1 { all.pop_front() } else { all.front().cloned() });
        self.requests.push(request);
        answer.unwrap_or_else(|| Answer { status: 404, ..Answer::ok(Vec::new()) })
    }
}

/// The server. It ends when it is dropped.
pub(crate) struct Server {
    address: String,
    script: Arc<Mutex<Script>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves an image as `app:1`, as it is but for what `change` does to the script.
    pub(crate) fn serve(image: &OciImage, change: impl FnOnce(&mut Script)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut script = Script { url: format!("http://{address}"), ..Script::default() };
        for blob in image.content() {
            script.set(&blob_path(blob), [Answer::ok(blob.bytes.clone())]);
        }
        script.set(MANIFEST, [Answer::ok(image.manifest.bytes.clone())]);
        change(&mut script);
        let (script, is_over) = (Arc::new(Mutex::new(script)), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (script, is_over) = (Arc::clone(&script), Arc::clone(&is_over));
            std::thread::spawn(move || listen(&listener, &script, &is_over))
        };
        Self { address, script, is_over, thread: Some(thread) }
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The name of the image here.
    pub(crate) fn reference(&self) -> String {
        format!("{}/app:1", self.address)
    }

    /// Heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.script.lock().unwrap().requests.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.address));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Where a blob is asked for.
pub(crate) fn blob_path(blob: &Blob) -> String {
    format!("/v2/app/blobs/{}", blob.digest)
}

fn listen(listener: &TcpListener, script: &Mutex<Script>, is_over: &AtomicBool) {
    std::thread::scope(|scope| {
        for stream in listener.incoming().map_while(Result::ok) {
            if is_over.load(Ordering::SeqCst) {
                break;
            }
            // A client that leaves early is what these tests are about.
            scope.spawn(move || drop(serve_one(stream, script)));
        }
    });
}

fn serve_one(mut stream: TcpStream, script: &Mutex<Script>) -> std::io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines().map_while(Result::ok);
    let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let answer = script.lock().unwrap().answer(request.join("\n"));
    write!(
        stream,
        "HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n",
        answer.status, answer.length
    )?;
    for (name, value) in &answer.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(&answer.body)?;
    if !answer.is_endless {
        return Ok(());
    }
    loop {
        stream.write_all(&answer.body)?;
    }
}
