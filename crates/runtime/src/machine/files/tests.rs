//! Copies with a guest that is played here: one that keeps to the protocol, and one that doesn't.

use hypercore_wire::message::{CopyDone, CopyStat, Stdout};
use tokio::net::UnixListener;

use super::*;

/// The guest's end of a connection, after the greeting and the request.
struct Guest(Link);

impl Guest {
    async fn accept(listener: &UnixListener) -> (Self, CopyFiles) {
        let link = Link::greet(listener.accept().await.unwrap().0).await.unwrap();
        let Message::CopyFiles(asked) = link.answer().await.unwrap() else { panic!("no request") };
        (Self(link), asked)
    }

    async fn say(&self, message: impl Into<Message>) {
        self.0.send(Link::REQUEST, Flags::NONE, &message.into()).await.unwrap();
    }

    async fn hear(&self) -> Message {
        self.0.answer().await.unwrap()
    }
}

/// Has a copy begin with a guest that answers this; the listener's directory lives as long as it is kept.
async fn begun(into: bool, path: &str, stat: CopyStat) -> (Copying, Stat, Guest) {
    let scratch = tempfile::tempdir().unwrap();
    let socket = scratch.path().join("machine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let request = GuestCopy { into, path: path.to_owned(), follow_link: false };
    let begin = async { Copying::begin(Contact::open(&socket).await.unwrap(), &request).await.unwrap() };
    let answer = async {
        let (guest, asked) = Guest::accept(&listener).await;
        assert_eq!((asked.into, asked.path.as_str()), (into, path));
        guest.say(stat).await;
        guest
    };
    let ((copying, found), guest) = tokio::join!(begin, answer);
    (copying, found, guest)
}

fn stat(is_directory: bool, name: &str) -> CopyStat {
    CopyStat { exists: true, is_directory, name: name.to_owned() }
}

#[tokio::test]
async fn what_comes_out_is_called_what_the_caller_called_it() {
    for name in ["../../etc/cron.d/evil", ".bashrc", "", "a/b"] {
        let (_copying, found, _guest) = begun(false, "/var/data", stat(false, name)).await;
        assert_eq!(found.name, "data", "{name:?}");
    }
    // What goes in lands where links in the machine lead, but under one name.
    for (said, name) in [("real", "real"), ("../x", "link"), ("a/b", "link"), ("", "link")] {
        let (_copying, found, _guest) = begun(true, "/var/link", stat(false, said)).await;
        assert_eq!(found.name, name, "{said:?}");
    }
}

#[tokio::test]
async fn a_stream_comes_as_it_is_taken_and_no_faster() {
    let (mut copying, _, guest) = begun(false, "/x", stat(false, "x")).await;
    let Message::Window(window) = guest.hear().await else { panic!("nothing was allowed") };
    let data = vec![7; window.bytes as usize];
    guest.say(Stdout { data: data.clone() }).await;
    assert_eq!(copying.next().await.unwrap(), CopyEvent::Data(data));
    // What was taken may come anew, once more is asked for; one byte beyond it breaks the protocol.
    let flood = async {
        assert_eq!(guest.hear().await, Window { bytes: window.bytes }.into());
        guest.say(Stdout { data: vec![7; window.bytes as usize] }).await;
        guest.say(Stdout { data: vec![7] }).await;
    };
    let (event, ()) = tokio::join!(copying.next(), flood);
    assert!(matches!(event, Ok(CopyEvent::Data(_))));
    copying.taken = 0;
    let broken = copying.next().await;
    assert!(matches!(broken, Err(ContactError::Link(LinkError::Unexpected(14)))), "{broken:?}");
}

#[tokio::test]
async fn a_stream_goes_in_as_the_guest_allows() {
    let (mut copying, _, guest) = begun(true, "/x", stat(true, "x")).await;
    assert!(copying.wants_input());
    copying.put(Some(b"0123456789".to_vec()));
    assert!(!copying.wants_input());
    let takes = async {
        guest.say(Window { bytes: 4 }).await;
        assert_eq!(guest.hear().await, Stdin { data: b"0123".to_vec() }.into());
        guest.say(Window { bytes: 100 }).await;
        assert_eq!(guest.hear().await, Stdin { data: b"456789".to_vec() }.into());
    };
    let (event, ()) = tokio::join!(copying.next(), takes);
    assert_eq!(event.unwrap(), CopyEvent::Taken);
    assert!(copying.wants_input());
    copying.put(None);
    let ends = async {
        assert_eq!(guest.hear().await, Stdin { data: Vec::new() }.into());
        guest.say(CopyDone { files: 1, bytes: 10 }).await;
    };
    let (event, ()) = tokio::join!(copying.next(), ends);
    assert_eq!(event.unwrap(), CopyEvent::Done { files: 1, bytes: 10 });
}

#[tokio::test]
async fn a_guest_that_refuses_says_whose_fault_it_is() {
    let (mut copying, _, guest) = begun(true, "/x", stat(true, "x")).await;
    guest.say(hypercore_wire::message::Fault::new(ErrorCode::FULL, "no room")).await;
    let refused = copying.next().await.unwrap_err();
    assert_eq!((fault(&refused), refused.to_string().as_str()), (Some(Fault::Full), "no room"));
    let (mut copying, _, guest) = begun(true, "/x", stat(true, "x")).await;
    drop(guest);
    assert_eq!(fault(&copying.next().await.unwrap_err()), None);
}
