//! `Events`: what happened on this node. It refuses to let a slow caller lose something unnoticed: a gap is told as an
//! event of its own, `node missed`, with the count.

use futures_util::{Stream, StreamExt as _, future, stream};
use hypercore_api::v1;
use hypercore_model::Timestamp;
use tonic::Status;

use super::{Handlers, problem::Problem, target};
use crate::{
    access::Caller,
    clock,
    events::{Event, Heard, Kind, Reader},
};

/// Most workloads, images and volumes that one caller may choose.
const IDS_COUNT_MAX: usize = 1024;

impl Handlers {
    pub(super) fn events_of(
        &self,
        call: &v1::EventsRequest,
    ) -> Result<impl Stream<Item = Result<v1::Event, Status>> + use<>, Problem> {
        let (chosen, caller) = (self.chosen(&call.ids)?, self.caller()?.clone());
        // Whoever neither follows nor says since when wants to see what is remembered.
        let remembered = (!call.follow).then_some(0);
        let since = call.since_ms.or(remembered).map(Timestamp::from_unix_ms);
        let heard = all(self.node.events.read(since), call.follow);
        Ok(told(heard, chosen, caller, self.node.identity.to_string()))
    }

    /// Workloads by their full ids; anything else as it was written, for it may be an image, a volume, or a workload
    /// that is gone.
    fn chosen(&self, texts: &[String]) -> Result<Vec<String>, Problem> {
        if texts.len() > IDS_COUNT_MAX {
            let message = format!("{} ids are too many; at most {IDS_COUNT_MAX} are allowed", texts.len());
            return Err(Problem::invalid("invalid_request", message));
        }
        let full = |text: &String| match target::known(self, text) {
            Ok(record) => record.id.to_string(),
            Err(_) => text.clone(),
        };
        Ok(texts.iter().map(full).collect())
    }
}

/// Everything that there is to read, or that ever comes.
fn all(reader: Reader, follow: bool) -> impl Stream<Item = Heard> {
    stream::unfold(reader, move |mut reader| async move {
        let heard = next(&mut reader, follow).await?;
        Some((heard, reader))
    })
}

/// What of it this caller is told.
fn told(
    heard: impl Stream<Item = Heard>,
    chosen: Vec<String>,
    caller: Caller,
    node: String,
) -> impl Stream<Item = Result<v1::Event, Status>> {
    heard.filter_map(move |heard| {
        let told = match heard {
            Heard::Event(event) => {
                (is_chosen(&chosen, &event) && is_seen(&caller, &event)).then(|| message(&event))
            }
            Heard::Missed(count) => Some(missed(count, &node)),
        };
        future::ready(told.map(Ok))
    })
}

async fn next(reader: &mut Reader, follow: bool) -> Option<Heard> {
    if follow { reader.next().await } else { reader.try_next() }
}

fn is_chosen(chosen: &[String], event: &Event) -> bool {
    let is_meant = |text: &String| *text == event.id || (event.kind == Kind::Workload && *text == event.name);
    chosen.is_empty() || chosen.iter().any(is_meant)
}

/// Callers that are bound to a tenant hear of its workloads alone.
fn is_seen(caller: &Caller, event: &Event) -> bool {
    event.tenant.as_ref().map_or(!caller.is_bound(), |tenant| caller.sees(tenant))
}

fn message(event: &Event) -> v1::Event {
    v1::Event {
        ts_ms: event.at.unix_ms(),
        kind: event.kind.as_str().to_owned(),
        action: event.action.as_str().to_owned(),
        id: event.id.clone(),
        name: event.name.clone(),
        image: event.image.clone(),
        details: event.details.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
    }
}

fn missed(count: u64, node: &str) -> v1::Event {
    v1::Event {
        ts_ms: clock::now().unix_ms(),
        kind: Kind::Node.as_str().to_owned(),
        action: "missed".to_owned(),
        id: node.to_owned(),
        details: [("count".to_owned(), count.to_string())].into(),
        ..v1::Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Action, EVENTS_MAX, Events};

    async fn heard_of(reader: Reader, chosen: &[&str]) -> Vec<v1::Event> {
        let chosen = chosen.iter().map(|&id| id.to_owned()).collect();
        let told = told(all(reader, false), chosen, Caller::local(), "node".to_owned());
        told.map(Result::unwrap).collect().await
    }

    #[tokio::test]
    async fn a_slow_caller_is_told_of_the_gap_whatever_it_chose() {
        let events = Events::default();
        for chosen in [&[][..], &["4100"]] {
            let slow = events.read(None);
            (0..EVENTS_MAX + 5)
                .for_each(|number| events.publish(Event::volume(Action::Created, number.to_string())));
            let heard = heard_of(slow, chosen).await;
            let gap = &heard[0];
            assert_eq!((gap.kind.as_str(), gap.action.as_str(), gap.id.as_str()), ("node", "missed", "node"));
            assert_eq!(gap.details["count"], "5");
            assert_eq!(heard.len(), if chosen.is_empty() { EVENTS_MAX + 1 } else { 2 });
        }
    }
}
