//! Events against their promises: in order, from a time on, and never silently lost.

use super::*;

fn event(number: usize) -> Event {
    Event { at: Timestamp::from_unix_ms(number as u64), ..Event::volume(Action::Created, number.to_string()) }
}

fn ids(reader: &mut Reader) -> Vec<String> {
    std::iter::from_fn(|| reader.try_next())
        .map(|heard| match heard {
            Heard::Event(event) => event.id.clone(),
            Heard::Missed(count) => format!("missed {count}"),
        })
        .collect()
}

#[test]
fn a_reader_gets_what_comes_and_on_request_what_was() {
    let events = Events::default();
    (0..3).for_each(|number| events.publish(event(number)));
    let mut fresh = events.read(None);
    let mut since = events.read(Some(Timestamp::from_unix_ms(1)));
    events.publish(event(3));
    assert_eq!(ids(&mut fresh), ["3"]);
    assert_eq!(ids(&mut since), ["1", "2", "3"]);
}

#[test]
fn a_reader_that_falls_behind_is_told_how_far() {
    let events = Events::default();
    let mut slow = events.read(None);
    (0..EVENTS_MAX + 5).for_each(|number| events.publish(event(number)));
    let heard = ids(&mut slow);
    assert_eq!((heard[0].as_str(), heard[1].as_str()), ("missed 5", "5"));
    assert_eq!(heard.len(), EVENTS_MAX + 1);
    assert_eq!(ids(&mut slow), [""; 0]);
}

#[tokio::test]
async fn who_waits_hears_of_it_and_of_the_end() {
    let events = Events::default();
    let mut reader = events.read(None);
    let published = async {
        events.publish(event(1));
        events.publish(event(2));
    };
    let (heard, ()) = tokio::join!(reader.next(), published);
    assert!(matches!(heard, Some(Heard::Event(event)) if event.id == "1"));
    assert!(matches!(reader.next().await, Some(Heard::Event(event)) if event.id == "2"));
    drop(events);
    assert_eq!(reader.next().await, None);
}

#[test]
fn an_end_is_told_as_shells_count_and_a_long_reason_is_cut() {
    let event = event(0).with_exit(ExitStatus::Signal(9)).with("reason", "é".repeat(DETAIL_LEN_MAX));
    assert_eq!((event.details["exit_code"].as_str(), event.details["signal"].as_str()), ("137", "9"));
    assert_eq!(event.details["reason"].len(), DETAIL_LEN_MAX);
    assert_eq!(event.with_exit(ExitStatus::OutOfMemory).details["out_of_memory"], "true");
}
