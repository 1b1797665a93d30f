//! `hypercore cp`: files into a workload and out of it, by docker's rules of where they go.
//! What comes from a workload is unpacked as an enemy's: it stays below the destination, whatever its names and links say.

mod carry;
mod layout;
mod target;

use std::{
    io::{self, IsTerminal as _, Read, Write as _},
    path::PathBuf,
    thread,
};

use clap::Args;
use hypercore_api::{ApiError, Client, ErrorKind, client::Session, v1};
use hypercore_copy::{
    CopyError, Fault, IdMap, Nodes, Owner, PackRequest, Report, Root, Stat, UnpackRequest, pack,
    pieces::{Incoming, Piece},
    unpack,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    console::Console,
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
};
use carry::PIECES_MAX;
use target::{Local, Side};

const EXAMPLES: &str = "\
Examples:
  hypercore cp web:/etc/hosts .                 out of a workload, that runs or not
  hypercore cp ./index.html web:/srv/           into one
  hypercore cp ./site/. web:/srv                what is in the directory, not the directory
  hypercore cp web:/etc - | tar t               as a tar stream; `-` as SRC reads one";

/// Copy files into a workload or out of it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CpArgs {
    /// WORKLOAD:PATH, a path of ours, or `-` for a tar stream
    #[arg(value_name = "SRC")]
    source: String,
    /// WORKLOAD:PATH, a path of ours, or `-` for a tar stream
    #[arg(value_name = "DST")]
    destination: String,
    /// Keep users and groups as they are; else files become root's inside and ours outside
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link at SRC leads to, not the link
    #[arg(short = 'L', long)]
    follow_link: bool,
}

/// Copies them.
pub(super) async fn run(args: CpArgs, context: &Context) -> Outcome {
    match (Side::of(&args.source), Side::of(&args.destination)) {
        (Side::Workload { id, path }, Side::Ours(local)) => {
            let start = v1::CopyStart { id, path, into: false, follow_link: args.follow_link };
            let client = context.connect().await?;
            copy_out(&client, start, local, args.archive, &context.console).await
        }
        (Side::Ours(local), Side::Workload { id, path }) => {
            let start = v1::CopyStart { id, path, into: true, follow_link: args.follow_link };
            let client = context.connect().await?;
            copy_in(&client, start, local, args.archive, &context.console).await
        }
        (Side::Workload { .. }, Side::Workload { .. }) => Err(usage("both sides are workloads")
            .with_hint("go through a stream: `hypercore cp a:/x - | hypercore cp - b:/y`")),
        (Side::Ours(_), Side::Ours(_)) => {
            Err(usage("neither side is a workload").with_hint("write WORKLOAD:PATH for one of them"))
        }
    }
}

fn usage(message: &str) -> Failure {
    Failure::new(ErrorKind::Usage, "invalid_request", message)
}

type CopySession = Session<v1::CopyRequest, v1::CopyResponse>;

/// Opens the copy and reads what the agent says is at the workload's path.
async fn open(client: &Client, start: v1::CopyStart) -> Result<(CopySession, Stat), Failure> {
    let path = start.path.clone();
    let mut session = client.copy(start).await?;
    let first = session.output.next().await?.and_then(|answer| answer.message);
    let Some(v1::copy_response::Message::Stat(stat)) = first else {
        let message = "the agent did not say what is there";
        return Err(Failure::new(ErrorKind::Failed, "answer_incomplete", message));
    };
    let is_contents = stat.name == ".";
    let has_slash = path.ends_with('/');
    let stat = Stat {
        exists: stat.exists,
        is_directory: stat.is_directory,
        name: stat.name.into(),
        is_contents,
        has_slash,
    };
    Ok((session, stat))
}

async fn copy_out(
    client: &Client,
    start: v1::CopyStart,
    local: Local,
    is_archive: bool,
    console: &Console,
) -> Outcome {
    if local == Local::Stream && io::stdout().is_terminal() {
        let failure = usage("a tar stream is nothing for a terminal");
        return Err(failure.with_hint("send it into a file or a pipe: `hypercore cp web:/etc - > etc.tar`"));
    }
    let (session, source) = open(client, start).await?;
    let (pieces, mut stream) = mpsc::channel::<Piece>(PIECES_MAX);
    let stream = Incoming::new(move || stream.blocking_recv());
    let worked = match local {
        Local::Stream => on_thread(move || to_stdout(stream))?,
        Local::Path(path) => on_thread(move || unpack_at(path, &source, is_archive, stream))?,
    };
    let (pumped, worked) = tokio::join!(carry::pump(session.output, pieces), worked);
    // When the agent failed, the thread saw no more than a stream that broke off.
    let report = pumped.map_err(Failure::from).and(worked.unwrap_or_else(|_| Err(ended_early())))?;
    tell_skipped(&report, console);
    Ok(Exit::Ok)
}

async fn copy_in(
    client: &Client,
    start: v1::CopyStart,
    local: Local,
    is_archive: bool,
    console: &Console,
) -> Outcome {
    let (follow, shown) = (start.follow_link, format!("{}:{}", start.id, start.path));
    let (mut session, destination) = open(client, start).await?;
    if local == Local::Stream && !destination.is_directory {
        return Err(Failure::new(ErrorKind::Usage, "not_a_directory", format!("{shown} is not a directory"))
            .with_hint("a tar stream is unpacked in a directory that is there"));
    }
    let requests = session.input;
    let worked = match local {
        Local::Stream => on_thread(move || from_stdin(&requests))?,
        Local::Path(path) => {
            on_thread(move || pack_from(path, follow, &destination, &shown, is_archive, &requests))?
        }
    };
    let answered = async {
        while let Some(answer) = session.output.next().await? {
            if matches!(answer.message, Some(v1::copy_response::Message::Done(_))) {
                return Ok(());
            }
        }
        Err(ApiError::new(ErrorKind::Failed, "answer_incomplete", "the agent did not say that it is done"))
    };
    // The thread's own mistake comes first: the agent then only sees a stream that breaks off.
    let (worked, answered) = tokio::join!(worked, answered);
    let worked = worked.unwrap_or_else(|_| Err(ended_early()));
    let report = match (worked, answered) {
        (Ok(report), Ok(())) => report,
        (Err(failure), _) if failure.error.code != "stream_broken" => return Err(failure),
        (_, Err(error)) => return Err(error.into()),
        (Err(failure), Ok(())) => return Err(failure),
    };
    tell_skipped(&report, console);
    Ok(Exit::Ok)
}

type Worked = Result<Report, Failure>;

/// Does work that blocks. It must be able to be left behind: a read of standard input can't be called back.
fn on_thread(work: impl FnOnce() -> Worked + Send + 'static) -> Result<oneshot::Receiver<Worked>, Failure> {
    let (answer, answered) = oneshot::channel();
    // Whoever waited may have been interrupted.
    let run = move || drop(answer.send(work()));
    thread::Builder::new().name("copy".to_owned()).spawn(run)?;
    Ok(answered)
}

fn unpack_at(path: PathBuf, source: &Stat, is_archive: bool, stream: impl Read) -> Worked {
    let root = Root::of_directory("/".as_ref()).map_err(failure)?;
    let destination = root.destination(&path).map_err(failure)?;
    let prefix = layout::name(source, &destination.stat, &path.display().to_string())?;
    let strip = if source.is_contents { Default::default() } else { source.name.clone() };
    let owner = if is_archive { Owner::Kept(IdMap::identity()) } else { Owner::Ours };
    let request = UnpackRequest {
        destination: &destination,
        strip: &strip,
        prefix: &prefix,
        owner,
        nodes: Nodes::Skip,
    };
    unpack(&request, stream).map_err(failure)
}

fn pack_from(
    path: PathBuf,
    follow: bool,
    destination: &Stat,
    shown: &str,
    is_archive: bool,
    requests: &mpsc::Sender<v1::CopyRequest>,
) -> Worked {
    let root = Root::of_directory("/".as_ref()).map_err(failure)?;
    let source = root.source(&path, follow).map_err(failure)?;
    let name = layout::name(&source.stat, destination, shown)?;
    let owner = if is_archive { Owner::Kept(IdMap::identity()) } else { Owner::Ours };
    let request = PackRequest { source: &source, name: &name, owner, skip_nodes: true };
    carry::send(requests, |out| pack(&request, out)).map_err(failure)
}

fn to_stdout(mut stream: impl Read) -> Worked {
    let mut stdout = io::stdout().lock();
    io::copy(&mut stream, &mut stdout)?;
    stdout.flush()?;
    Ok(Report::default())
}

fn from_stdin(requests: &mpsc::Sender<v1::CopyRequest>) -> Worked {
    let sent = carry::send(requests, |out| io::copy(&mut io::stdin().lock(), out).map_err(CopyError::Stream));
    sent.map(|_| Report::default()).map_err(failure)
}

fn failure(error: CopyError) -> Failure {
    let message = hypercore_agent::chain(&error);
    let told = |kind, code: &str| Failure::new(kind, code, message.as_str());
    match error.fault() {
        Fault::NotFound => told(ErrorKind::NotFound, "path_not_found"),
        Fault::Mistake => told(ErrorKind::Usage, "copy_refused"),
        Fault::ReadOnly => told(ErrorKind::Conflict, "read_only"),
        Fault::Full => {
            told(ErrorKind::Failed, "disk_full").with_hint("free some space, or choose another place")
        }
        Fault::Denied => told(ErrorKind::Refused, "permission_denied").with_hint("try again with `sudo`"),
        Fault::BrokenOff => told(ErrorKind::Failed, "stream_broken"),
        Fault::Other => told(ErrorKind::Failed, "copy_failed"),
    }
}

fn ended_early() -> Failure {
    Failure::new(ErrorKind::Failed, "copy_failed", "the copy ended early")
}

/// Names shown of what was left out.
const SKIPPED_SHOWN_MAX: usize = 3;

fn tell_skipped(report: &Report, console: &Console) {
    if report.skipped_count == 0 {
        return;
    }
    let shown = report.skipped.len().min(SKIPPED_SHOWN_MAX);
    let names: Vec<_> = report.skipped[..shown].iter().map(|name| crate::table::printable(name)).collect();
    let more = if report.skipped_count > shown as u64 { ", ..." } else { "" };
    console.warn(&format!(
        "left out {} devices, pipes or sockets: {}{more}",
        report.skipped_count,
        names.join(", ")
    ));
}
