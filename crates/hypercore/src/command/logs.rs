//! `hypercore logs`: what workloads wrote, their stdout to ours and their stderr to ours.

mod lines;

use std::{
    io::{self, Write as _},
    str::FromStr,
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use futures_util::{
    StreamExt as _,
    stream::{self, LocalBoxStream},
};
use hypercore_api::{ApiError, client::Incoming, v1};
use hypercore_model::Timestamp;

use crate::{context::Context, exit::Exit, failure::Outcome, point_in_time::PointInTime};
use lines::Lines;

const EXAMPLES: &str = "\
Examples:
  hypercore logs web
  hypercore logs -f --tail 10 web      the last ten entries, and on as it writes
  hypercore logs --since 10m web       RFC 3339 times and seconds since 1970 work too
  hypercore logs -t web db             of several, each line with its time and its workload
  hypercore logs --json web            one object per line: ts, stream, data";

/// Show what workloads wrote
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    /// Id, unique prefix of an id, or name
    #[arg(required = true, value_name = "WORKLOAD")]
    workloads: Vec<String>,
    /// Go on as it writes, until it ends
    #[arg(short, long)]
    follow: bool,
    /// Only what was written at or after this time, or within this time from now
    #[arg(long, value_name = "TIME")]
    since: Option<PointInTime>,
    /// Only what was written up to this time, or before this time from now
    #[arg(long, value_name = "TIME")]
    until: Option<PointInTime>,
    /// Only the last entries, a number or `all`
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    tail: Tail,
    /// Begin each line with when it was written
    #[arg(short, long)]
    timestamps: bool,
}

impl LogsArgs {
    /// The same as typed under another name.
    pub(super) const fn of(workloads: Vec<String>, follow: bool) -> Self {
        Self { workloads, follow, since: None, until: None, tail: Tail(None), timestamps: false }
    }
}

/// One workload whose log is read.
struct Source {
    name: String,
    stdout: Lines,
    stderr: Lines,
}

/// The entries of all sources as they come, each with the number of its source.
type Entries = stream::SelectAll<LocalBoxStream<'static, (usize, Result<v1::LogEntry, ApiError>)>>;

/// Prints it.
pub(super) async fn run(args: LogsArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let now = Timestamp::from_system_time(SystemTime::now());
    let until_ms = args.until.map(|until| until.before(now).unix_ms());
    let width = args.workloads.iter().map(String::len).max().unwrap_or_default();
    let mut sources = Vec::new();
    let mut entries = Entries::new();
    for (index, name) in args.workloads.iter().enumerate() {
        let request = v1::LogsRequest {
            id: name.clone(),
            follow: args.follow,
            tail: args.tail.0,
            since_ms: args.since.map(|since| since.before(now).unix_ms()),
        };
        entries.push(numbered(index, client.logs(request).await?));
        let prefix = if args.workloads.len() > 1 { format!("{name:width$} | ") } else { String::new() };
        let lines = || Lines::new(&prefix, args.timestamps);
        sources.push(Source { name: name.clone(), stdout: lines(), stderr: lines() });
    }
    let is_for_people = context.console.is_for_people();
    let is_alone = sources.len() == 1;
    while let Some((index, entry)) = entries.next().await {
        let entry = entry?;
        if until_ms.is_some_and(|until_ms| entry.ts_ms > until_ms) {
            if is_alone {
                // Its entries are in order: no more can follow.
                break;
            }
            continue;
        }
        let source = &mut sources[index];
        if is_for_people {
            print(source, &entry)?;
        } else {
            context.console.line(&document(&entry, (!is_alone).then_some(&source.name)))?;
        }
    }
    for source in &mut sources {
        write(&source.stdout.finish(), v1::OutputStream::Stdout)?;
        write(&source.stderr.finish(), v1::OutputStream::Stderr)?;
    }
    Ok(Exit::Ok)
}

fn numbered(
    index: usize,
    entries: Incoming<v1::LogEntry>,
) -> LocalBoxStream<'static, (usize, Result<v1::LogEntry, ApiError>)> {
    stream::unfold(Some(entries), move |entries| async move {
        let mut entries = entries?;
        match entries.next().await {
            Ok(Some(entry)) => Some(((index, Ok(entry)), Some(entries))),
            Ok(None) => None,
            Err(error) => Some(((index, Err(error)), None)),
        }
    })
    .boxed_local()
}

fn print(source: &mut Source, entry: &v1::LogEntry) -> io::Result<()> {
    let at = Timestamp::from_unix_ms(entry.ts_ms).to_string();
    let lines = match entry.stream() {
        v1::OutputStream::Stdout => &mut source.stdout,
        v1::OutputStream::Stderr => &mut source.stderr,
    };
    write(&lines.add(&entry.data, &at), entry.stream())
}

fn write(bytes: &[u8], stream: v1::OutputStream) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    match stream {
        v1::OutputStream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        }
        v1::OutputStream::Stderr => io::stderr().lock().write_all(bytes),
    }
}

/// One entry as one line of JSON, in the form it has on disk; of several workloads with whose it is.
fn document(entry: &v1::LogEntry, workload: Option<&String>) -> String {
    let mut object = serde_json::json!({
        "ts": Timestamp::from_unix_ms(entry.ts_ms).to_string(),
        "stream": if entry.stream() == v1::OutputStream::Stderr { "stderr" } else { "stdout" },
    });
    if let Some(workload) = workload {
        object["workload"] = workload.as_str().into();
    }
    match std::str::from_utf8(&entry.data) {
        Ok(text) => object["data"] = text.into(),
        Err(_) => {
            object["data"] = BASE64.encode(&entry.data).into();
            object["encoding"] = "base64".into();
        }
    }
    object.to_string()
}

/// `--tail`: so many entries, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail(Option<u32>);

impl FromStr for Tail {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self(None)),
            number => number.parse().map(Some).map(Self).map_err(|_| "write a number or `all`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_travel_as_base64() {
        let entry = v1::LogEntry { ts_ms: 0, stream: 1, data: vec![0xff, 0x00] };
        assert_eq!(
            document(&entry, None),
            r#"{"data":"/wA=","encoding":"base64","stream":"stderr","ts":"1970-01-01T00:00:00.000Z"}"#
        );
        assert!(document(&entry, Some(&"web".to_owned())).contains(r#""workload":"web""#));
    }
}
