//! What is taken over, and what isn't. Handing over between processes is tested with the whole program.

use std::os::unix::{fs::MetadataExt as _, net::UnixStream};

use super::*;

fn handed(name: &str, socket: Socket) -> Listeners {
    let waiting = Mutex::new(vec![Waiting { name: name.to_owned(), socket }]);
    Listeners { waiting, keeper: Keeper::nobody() }
}

fn tcp() -> (StdTcpListener, SocketAddr) {
    let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_socket_of_the_same_name_and_address_is_taken_over_with_those_who_wait() {
    let (listener, address) = tcp();
    let waiting = std::net::TcpStream::connect(address).unwrap();
    let listeners = handed("http", Socket::Tcp(listener));
    let taken = listeners.tcp("http", address).unwrap();
    let (_, caller) = taken.accept().await.unwrap();
    assert_eq!(caller, waiting.local_addr().unwrap());
}

#[tokio::test]
async fn a_socket_of_another_address_is_closed_and_not_served() {
    let (listener, stale) = tcp();
    let listeners = handed("http", Socket::Tcp(listener));
    let bound = listeners.tcp("http", "127.0.0.1:0".parse().unwrap()).unwrap();
    assert_ne!(bound.local_addr().unwrap(), stale);
    assert!(std::net::TcpStream::connect(stale).is_err());
}

#[tokio::test]
async fn a_socket_that_nobody_asks_for_is_closed_when_all_listen() {
    let (listener, address) = tcp();
    let listeners = handed("http", Socket::Tcp(listener));
    assert!(std::net::TcpStream::connect(address).is_ok());
    listeners.release_unused();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn a_unix_socket_keeps_its_inode_when_taken_over_and_is_made_anew_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let inode = || fs::metadata(&path).unwrap().ino();
    let first = Listeners::unkept().unix("api", &path).unwrap().into_std().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (before, _waiting) = (inode(), UnixStream::connect(&path).unwrap());

    let taken = handed("api", Socket::Unix(first)).unix("api", &path).unwrap();
    assert_eq!(inode(), before);
    taken.accept().await.unwrap();

    // Its path is gone: nobody could reach it any more.
    fs::remove_file(&path).unwrap();
    let taken = handed("api", Socket::Unix(taken.into_std().unwrap())).unix("api", &path).unwrap();
    UnixStream::connect(&path).unwrap();
    taken.accept().await.unwrap();
}
