//! One copy of files into the workload's root or out of it. The work is `hypercore_copy`'s, as on the host for
//! containers; here are its two pipes to the host, and the end of both.
//! It refuses to go anywhere but below the first process's root, and to hold more than the protocol's credit.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use hypercore_copy::{
    CopyError, Fault as Whose, IdMap, Nodes, Owner, PackRequest, Report, Root, Stat, UnpackRequest, pack,
    pieces::{Incoming, Outgoing, Piece},
    unpack,
};
use hypercore_wire::{
    Credit, ErrorCode, Flags, StreamId,
    credit::CreditError,
    message::{CopyDone, CopyFiles, CopyStat, Fault, Stdout, Window},
};

use crate::{link::Sender, output::Allowance, session::Admission};

/// Bytes of a stream that may be on their way to us.
const INPUT_CREDIT: u32 = 256 * 1024;
/// Bytes of a piece that goes out.
const PIECE_BYTES: usize = 32 * 1024;

/// A copy and what leads to it.
#[derive(Debug)]
pub(crate) struct Copying {
    /// `None` once the stream is complete or broken off.
    input: Option<mpsc::Sender<Piece>>,
    /// What the host may still send; shared with the thread that gives it back.
    input_credit: Arc<Mutex<Credit>>,
    allowance: Arc<Allowance>,
    is_over: Arc<AtomicBool>,
}

/// What the thread of a copy works with.
struct Job {
    asked: CopyFiles,
    root: Root,
    stream: StreamId,
    sender: Sender,
    input: mpsc::Receiver<Piece>,
    input_credit: Arc<Mutex<Credit>>,
    allowance: Arc<Allowance>,
}

/// Starts what the host asks for, below `root`.
pub(crate) fn start(
    asked: CopyFiles,
    root: OwnedFd,
    stream: StreamId,
    sender: &Sender,
    admission: Admission,
) -> Copying {
    let (input, pieces) = mpsc::channel();
    let copying = Copying {
        input: asked.into.then_some(input),
        input_credit: Arc::default(),
        allowance: Arc::new(Allowance::by_credit()),
        is_over: Arc::default(),
    };
    let job = Job {
        asked,
        root: Root::of_open(root),
        stream,
        sender: sender.clone(),
        input: pieces,
        input_credit: Arc::clone(&copying.input_credit),
        allowance: Arc::clone(&copying.allowance),
    };
    let is_over = Arc::clone(&copying.is_over);
    thread::spawn(move || {
        let (sender, stream) = (job.sender.clone(), job.stream);
        let done = job.run();
        is_over.store(true, Ordering::Release);
        drop(admission);
        match done {
            Ok(report) => {
                let done = CopyDone { files: report.files, bytes: report.bytes };
                sender.send(stream, Flags::END_STREAM, done);
            }
            Err(error) => sender.refuse(stream, code(&error), chain(&error)),
        }
    });
    copying
}

impl Copying {
    /// Takes a piece from the host.
    pub(crate) fn take_input(&mut self, data: Vec<u8>, is_end: bool) -> Result<(), CreditError> {
        self.input_credit.lock().unwrap_or_else(PoisonError::into_inner).spend(data.len())?;
        let Some(input) = &self.input else { return Ok(()) };
        // A thread that has failed takes no more, and has said so.
        if !data.is_empty() {
            let _ = input.send(Piece::Data(data));
        }
        if is_end {
            let _ = input.send(Piece::End);
            self.input = None;
        }
        Ok(())
    }

    /// Lets more be sent.
    pub(crate) fn grant(&self, bytes: u32) -> Result<(), CreditError> {
        self.allowance.grant(bytes)
    }

    /// The host wants no more of it, or is gone.
    pub(crate) fn break_off(&mut self) {
        self.input = None;
        self.allowance.abandon();
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

impl Job {
    fn run(self) -> Result<Report, CopyError> {
        if self.asked.into { self.copy_in() } else { self.copy_out() }
    }

    fn copy_in(self) -> Result<Report, CopyError> {
        let destination = self.root.destination(Path::new(&self.asked.path))?;
        self.tell(&destination.stat)?;
        self.give_back(INPUT_CREDIT);
        let request = UnpackRequest {
            destination: &destination,
            strip: "".as_ref(),
            prefix: "".as_ref(),
            owner: Owner::Kept(IdMap::identity()),
            nodes: Nodes::Refuse,
        };
        let stream = Incoming::new(|| {
            let piece = self.input.recv().ok()?;
            if let Piece::Data(data) = &piece {
                self.give_back(u32::try_from(data.len()).unwrap_or(u32::MAX));
            }
            Some(piece)
        });
        unpack(&request, stream)
    }

    fn copy_out(self) -> Result<Report, CopyError> {
        let source = self.root.source(Path::new(&self.asked.path), self.asked.follow_link)?;
        self.tell(&source.stat)?;
        let name = source.stat.name.clone();
        let owner = Owner::Kept(IdMap::identity());
        let request = PackRequest { source: &source, name: &name, owner, skip_nodes: false };
        pack(&request, Outgoing::new(PIECE_BYTES, |piece| self.send(&piece)))
    }

    fn tell(&self, stat: &Stat) -> Result<(), CopyError> {
        let stat = CopyStat {
            exists: stat.exists,
            is_directory: stat.is_directory,
            name: stat.name.to_string_lossy().into_owned(),
        };
        let is_told = self.sender.send(self.stream, Flags::NONE, stat);
        if is_told { Ok(()) } else { Err(CopyError::Stream(io::ErrorKind::BrokenPipe.into())) }
    }

    /// Lets the host send so many bytes more.
    fn give_back(&self, bytes: u32) {
        let granted = self.input_credit.lock().unwrap_or_else(PoisonError::into_inner).grant(bytes);
        granted.expect("what is given back was granted before");
        self.sender.send(self.stream, Flags::NONE, Window { bytes });
    }

    /// Sends a piece as the host allows.
    fn send(&self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            let allowed = self.allowance.wait().ok_or(io::ErrorKind::BrokenPipe)?;
            let (data, rest) = piece.split_at(allowed.min(piece.len()));
            self.allowance.spend(data.len());
            if !self.sender.send(self.stream, Flags::NONE, Stdout { data: data.to_vec() }) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            piece = rest;
        }
        Ok(())
    }
}

/// What a failure is to the host.
fn code(error: &CopyError) -> ErrorCode {
    match error.fault() {
        Whose::NotFound => ErrorCode::NO_SUCH_PATH,
        Whose::Mistake => ErrorCode::REFUSED,
        Whose::ReadOnly => ErrorCode::READ_ONLY,
        Whose::Full => ErrorCode::FULL,
        Whose::Denied => ErrorCode::DENIED,
        Whose::BrokenOff => ErrorCode::BROKEN_OFF,
        Whose::Other => ErrorCode::INTERNAL,
    }
}

/// An error with what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// That there is no root to copy from yet.
pub(crate) fn no_root() -> Fault {
    Fault::new(ErrorCode::NOT_RUNNING, "the workload's first process has not started yet")
}
