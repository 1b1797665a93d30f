//! `hypercore logs`: what a workload wrote, its stdout to ours and its stderr to ours.

use std::{
    io::{self, Write as _},
    str::FromStr,
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use hypercore_api::v1;
use hypercore_model::Timestamp;

use crate::{context::Context, exit::Exit, failure::Outcome};

const EXAMPLES: &str = "\
Examples:
  hypercore logs web
  hypercore logs -f --tail 10 web      the last ten entries, and on as it writes
  hypercore logs --since 10m web       RFC 3339 times work too: 2026-01-31T12:00:00Z
  hypercore logs --json web            one object per line: ts, stream, data";

/// Show what a workload wrote
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    /// Id, unique prefix of an id, or name
    #[arg(value_name = "WORKLOAD")]
    workload: String,
    /// Go on as it writes, until it ends
    #[arg(short, long)]
    follow: bool,
    /// Only what was written at or after this time, or within this time from now
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Only the last entries, a number or `all`
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    tail: Tail,
}

/// Prints it.
pub(super) async fn run(args: LogsArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let now = Timestamp::from_system_time(SystemTime::now());
    let mut entries = client
        .logs(v1::LogsRequest {
            id: args.workload,
            follow: args.follow,
            tail: args.tail.0,
            since_ms: args.since.map(|since| since.before(now).unix_ms()),
        })
        .await?;
    let is_for_people = context.console.is_for_people();
    while let Some(entry) = entries.next().await? {
        if is_for_people { write_raw(&entry)? } else { context.console.line(&line(&entry))? }
    }
    Ok(Exit::Ok)
}

fn write_raw(entry: &v1::LogEntry) -> io::Result<()> {
    match entry.stream() {
        v1::OutputStream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&entry.data)?;
            stdout.flush()
        }
        v1::OutputStream::Stderr => io::stderr().lock().write_all(&entry.data),
    }
}

/// One entry as one line of JSON, in the form it has on disk.
fn line(entry: &v1::LogEntry) -> String {
    let mut object = serde_json::json!({
        "ts": Timestamp::from_unix_ms(entry.ts_ms).to_string(),
        "stream": if entry.stream() == v1::OutputStream::Stderr { "stderr" } else { "stdout" },
    });
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

/// `--since`: a point in time, or a length of time before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    At(Timestamp),
    Ago(std::time::Duration),
}

impl Since {
    fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(length) => {
                let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
                Timestamp::from_unix_ms(now.unix_ms().saturating_sub(length_ms))
            }
        }
    }
}

impl FromStr for Since {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(time) = humantime::parse_rfc3339_weak(text) {
            return Ok(Self::At(Timestamp::from_system_time(time)));
        }
        let length = humantime::parse_duration(text);
        length.map(Self::Ago).map_err(|_| "write a time such as 2026-01-31T12:00:00Z or a length such as 10m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_times_and_lengths() {
        let now = Timestamp::from_unix_ms(1_000_000);
        assert_eq!("10s".parse::<Since>().unwrap().before(now), Timestamp::from_unix_ms(990_000));
        assert_eq!(
            "1970-01-01T00:00:01Z".parse::<Since>().unwrap().before(now),
            Timestamp::from_unix_ms(1000)
        );
        assert!("yesterday".parse::<Since>().is_err());
    }

    #[test]
    fn bytes_that_are_no_text_travel_as_base64() {
        let entry = v1::LogEntry { ts_ms: 0, stream: 1, data: vec![0xff, 0x00] };
        assert_eq!(
            line(&entry),
            r#"{"data":"/wA=","encoding":"base64","stream":"stderr","ts":"1970-01-01T00:00:00.000Z"}"#
        );
    }
}
