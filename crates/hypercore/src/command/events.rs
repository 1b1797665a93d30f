//! `hypercore events`: what happens to workloads, images and volumes, as it happens.

use std::{str::FromStr, time::SystemTime};

use clap::Args;
use hypercore_api::v1;
use hypercore_model::Timestamp;

use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
    point_in_time::PointInTime,
    table::printable,
    view::{familiar, short_id},
};

const EXAMPLES: &str = "\
Examples:
  hypercore events                     from now on; leave with ctrl-c
  hypercore events --since 1h --until 0s
  hypercore events --filter type=image --filter event=pulled
  hypercore events --since 10m --until 0s --json | jq -r .action";

/// Show what happens on the node
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EventsArgs {
    /// Also what is remembered since this time, or since this long ago
    #[arg(long, value_name = "TIME")]
    since: Option<PointInTime>,
    /// End at this time, or this long ago, instead of going on
    #[arg(long, value_name = "TIME")]
    until: Option<PointInTime>,
    /// Only what matches: type=workload, event=exited, workload=web, image=web:1; several of a kind widen it
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    // Following is what it does; scripts that say so anyway are right too.
    #[arg(long, hide = true)]
    follow: bool,
}

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    key: Key,
    value: String,
}

/// What a filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Type,
    Event,
    Workload,
    Image,
}

impl FromStr for Filter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = "write type=, event=, workload= or image=, and what it is to be";
        let (key, value) = text.split_once('=').ok_or(refused)?;
        let key = match key {
            "type" => Key::Type,
            "event" | "action" => Key::Event,
            "workload" | "container" => Key::Workload,
            "image" => Key::Image,
            _ => return Err(refused),
        };
        // Docker's word for what we call workloads.
        let is_docker = key == Key::Type && value == "container";
        let value = if is_docker { "workload" } else { value };
        if value.is_empty() { Err(refused) } else { Ok(Self { key, value: value.to_owned() }) }
    }
}

impl Filter {
    fn matches(&self, event: &v1::Event) -> bool {
        match self.key {
            Key::Type => event.kind == self.value,
            Key::Event => event.action == self.value,
            Key::Workload => {
                event.kind == "workload" && (event.name == self.value || event.id.starts_with(&self.value))
            }
            Key::Image => {
                let image = if event.kind == "image" { &event.id } else { &event.image };
                *image == self.value || familiar(image) == self.value
            }
        }
    }
}

/// Whether an event passes: of each kind of filter that was given, one must match.
fn passes(filters: &[Filter], event: &v1::Event) -> bool {
    let keys = [Key::Type, Key::Event, Key::Workload, Key::Image];
    keys.into_iter().all(|key| {
        let mut of_kind = filters.iter().filter(|filter| filter.key == key).peekable();
        of_kind.peek().is_none() || of_kind.any(|filter| filter.matches(event))
    })
}

/// Shows them until the user or `--until` ends it.
pub(super) async fn run(args: EventsArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let now = Timestamp::from_system_time(SystemTime::now());
    let until = args.until.map(|until| until.before(now));
    // What lies in the past is remembered or not; only for what is to come there is something to wait for.
    let follow = until.is_none_or(|until| until > now);
    let since_ms = args.since.map(|since| since.before(now).unix_ms());
    let mut events = client.events(v1::EventsRequest { since_ms, follow, ids: Vec::new() }).await?;
    let deadline = async {
        match until.filter(|_| follow) {
            Some(until) => tokio::time::sleep(until.since(now)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            () = &mut deadline => None,
        };
        let Some(event) = event else { return Ok(Exit::Ok) };
        if until.is_some_and(|until| event.ts_ms > until.unix_ms()) || !passes(&args.filter, &event) {
            continue;
        }
        let line = if context.console.is_for_people() { line(&event) } else { document(&event)? };
        context.console.line(&line)?;
    }
}

/// `2026-11-21T08:00:00.123Z  workload started  web  1b4e28ba-2fa  image=web:1`
fn line(event: &v1::Event) -> String {
    let mut words =
        vec![Timestamp::from_unix_ms(event.ts_ms).to_string(), event.kind.clone(), event.action.clone()];
    let id = if event.kind == "workload" { short_id(&event.id) } else { &event.id };
    if event.name.is_empty() {
        words.push(id.to_owned());
    } else {
        words.push(format!("{} ({id})", event.name));
    }
    if !event.image.is_empty() {
        words.push(format!("image={}", familiar(&event.image)));
    }
    words.extend(sorted(event).map(|(key, value)| format!("{key}={value}")));
    printable(&words.join(" "))
}

fn sorted(event: &v1::Event) -> impl Iterator<Item = (&String, &String)> {
    event.details.iter().collect::<std::collections::BTreeMap<_, _>>().into_iter()
}

/// One event as one line of JSON.
fn document(event: &v1::Event) -> Result<String, Failure> {
    let document = serde_json::json!({
        "ts": Timestamp::from_unix_ms(event.ts_ms).to_string(),
        "kind": event.kind,
        "action": event.action,
        "id": event.id,
        "name": (!event.name.is_empty()).then_some(&event.name),
        "image": (!event.image.is_empty()).then_some(&event.image),
        "details": sorted(event).collect::<std::collections::BTreeMap<_, _>>(),
    });
    serde_json::to_string(&document).map_err(|error| std::io::Error::other(error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> v1::Event {
        v1::Event {
            ts_ms: 1000,
            kind: "workload".into(),
            action: "exited".into(),
            id: "1b4e28ba-2fa1-41d2-883f-0016d3cca427".into(),
            name: "web".into(),
            image: "docker.io/library/web:1".into(),
            details: [("exit_code".to_owned(), "3".to_owned()), ("a".to_owned(), "\x1b".to_owned())].into(),
        }
    }

    fn filters(texts: &[&str]) -> Vec<Filter> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn filters_of_one_kind_widen_and_of_several_narrow() {
        assert!(passes(&[], &event()));
        assert!(passes(&filters(&["event=started", "event=exited", "type=container"]), &event()));
        assert!(!passes(&filters(&["event=exited", "type=image"]), &event()));
        assert!(passes(&filters(&["workload=web", "image=web:1"]), &event()));
        assert!(
            passes(&filters(&["workload=1b4e"]), &event()) && !passes(&filters(&["workload=we"]), &event())
        );
        for text in ["", "type", "type=", "colour=red"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }

    #[test]
    fn people_get_one_safe_line() {
        assert_eq!(
            line(&event()),
            "1970-01-01T00:00:01.000Z workload exited web (1b4e28ba-2fa) image=web:1 a=\\u{1b} exit_code=3"
        );
    }
}
