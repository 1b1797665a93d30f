//! Terminals: the first process and later ones get one each, and its master comes over the console socket.

use std::{
    fs::File,
    io::{IoSliceMut, Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixListener,
    },
};

use hypercore_fixtures::skip_without_root;
use hypercore_shim::terminal::TerminalSize;
use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};

use super::{Machine, machine::request};

/// The master that was sent to `listener`.
#[allow(unsafe_code, reason = "a received descriptor has no owner yet")]
fn master(listener: &UnixListener) -> File {
    let (stream, _) = listener.accept().unwrap();
    let mut text = [0; 64];
    let mut parts = [IoSliceMut::new(&mut text)];
    let mut space = cmsg_space!([i32; 1]);
    let message =
        recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let descriptor = message.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel just made it for this process, and nothing else knows its number.
    File::from(unsafe { OwnedFd::from_raw_fd(descriptor.unwrap()) })
}

/// What is written to the terminal, until `end` was or nobody has it open any more.
fn read_until(master: &mut File, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    // The end of a terminal is EIO.
    while let Ok(len @ 1..) = master.read(&mut buffer) {
        text.push_str(&str::from_utf8(&buffer[..len]).unwrap().replace('\r', ""));
        if text.ends_with(end) {
            break;
        }
    }
    text
}

#[test]
fn the_first_process_gets_a_terminal() {
    if skip_without_root("the_first_process_gets_a_terminal") {
        return;
    }
    let mut machine = Machine::shell("tty; test -t 0 && test -t 2 && echo $TERM; read line; echo got $line");
    machine.spec.tty = true;
    let socket = machine.bundle().join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let started = machine.create_with(Some(&socket)).unwrap();
    let mut master = master(&listener);
    assert_eq!(read_until(&mut master, "xterm\n"), "/dev/pts/0\nxterm\n");
    master.write_all(b"hello\n").unwrap();
    assert_eq!(read_until(&mut master, "got hello\n"), "hello\ngot hello\n");
    assert_eq!(started.wait().code, 0);
    machine.delete();
}

#[test]
fn an_exec_gets_a_terminal_of_the_right_size() {
    if skip_without_root("an_exec_gets_a_terminal_of_the_right_size") {
        return;
    }
    for user_namespace in [false, true] {
        sized(user_namespace);
    }
}

fn sized(user_namespace: bool) {
    let mut machine = Machine::shell("sleep 100");
    machine.spec.user_namespace = user_namespace;
    let started = machine.create().unwrap();
    let before = machine.state_files();
    let socket = machine.bundle().join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // Its own, so that programs can open it again.
    let mut ask = request(&["sh", "-c", "tty; stty size; stat -c %u $(tty); echo $TERM >/dev/tty"]);
    ask.tty = true;
    ask.size = Some(TerminalSize { rows: 33, columns: 121 });
    let exec = machine.exec_request(&ask, Some(&socket)).unwrap();
    // Held to the end: without its terminal the command would be hung up.
    let mut master = master(&listener);
    assert_eq!(read_until(&mut master, "xterm\n"), "/dev/pts/0\n33 121\n0\nxterm\n");
    assert_eq!(exec.wait().code, 0);
    assert_eq!(machine.state_files(), before);
    machine.delete();
    started.wait();
}

#[test]
fn a_terminal_without_a_socket_is_refused() {
    if skip_without_root("a_terminal_without_a_socket_is_refused") {
        return;
    }
    let mut machine = Machine::shell("true");
    machine.spec.tty = true;
    assert!(machine.create().is_err());
    machine.assert_nothing_left();
}
