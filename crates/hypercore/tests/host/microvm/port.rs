//! A guest against a host that talks nonsense: a machine that is booted bare, and spoken to at its port. A guest is
//! another machine's first process: what ends it ends a workload.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use hypercore_fixtures::{guest_kernel, skip_without_machines, wait_until};

use super::{SOON, initramfs, run};
use crate::node::Node;

/// Longest wait for one answer. A port has no connections: a guest that doesn't see that one host hung up before the
/// next one came takes what that says for more of the same, until it hangs up too.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// A machine with nothing but kernel, initramfs and port.
struct Bare {
    monitor: Child,
    socket: PathBuf,
}

impl Bare {
    fn boot(node: &Node) -> Self {
        let boot = std::fs::read_dir(guest_kernel().unwrap().join("boot")).unwrap().flatten();
        let kernel = boot.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("vmlinuz"));
        let socket = node.path("bare.sock");
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-machine", "q35"]);
        command.args(["-cpu", "max", "-accel", "tcg", "-m", "256M", "-device", "virtio-serial-pci"]);
        command.args(["-append", "console=ttyS0 quiet panic=-1"]).arg("-kernel").arg(kernel.unwrap());
        command.arg("-initrd").arg(initramfs(node)).arg("-serial");
        command.arg(format!("file:{}", node.path("bare.log").display())).arg("-chardev");
        command.arg(format!("socket,id=guest,path={},server=on,wait=off", socket.display()));
        command.args(["-device", "virtserialport,chardev=guest,name=hypercore.guest"]);
        let monitor = command.stdin(Stdio::null()).spawn().unwrap();
        Self { monitor, socket }
    }

    fn connect(&self) -> UnixStream {
        let stream = wait_until(SOON, || UnixStream::connect(&self.socket).ok()).expect("QEMU listens");
        stream.set_read_timeout(Some(ANSWER_TIME_MAX)).unwrap();
        stream
    }

    /// Whether a conversation in JSON is answered: then the guest is in its right mind.
    #[track_caller]
    fn assert_answers(&self) {
        let ask = || {
            let mut stream = self.connect();
            stream.write_all(b"{\"cmd\":\"true\"}\n").ok()?;
            let mut answer = [0; 4096];
            let len = stream.read(&mut answer).ok()?;
            String::from_utf8_lossy(&answer[..len]).contains("not prepared").then_some(())
        };
        assert!(wait_until(SOON, ask).is_some(), "the guest doesn't answer any more");
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

#[test]
fn a_guest_outlives_every_nonsense_at_its_port() {
    if skip_without_machines("a_guest_outlives_every_nonsense_at_its_port") {
        return;
    }
    let node = Node::start();
    run(&node, &["--rm"], &["true"]).expect(0);
    let bare = Bare::boot(&node);
    bare.assert_answers();
    let flood = vec![0xA5; 4 << 20];
    let long_line = [b"{".as_slice(), &vec![b'x'; 4 << 20]].concat();
    let nonsense: [&[u8]; 7] = [
        b"\n",
        b"{not json at all\n",
        // A frame of 1 GiB, of which nothing more comes.
        b"\x40\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\x00\x00\x00\x40\x00\x00\x00\x00\x01",
        // A frame whose content is none of the protocol's.
        b"\x04\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff",
        &flood,
        &long_line,
    ];
    for piece in nonsense {
        let mut stream = bare.connect();
        stream.set_write_timeout(Some(ANSWER_TIME_MAX)).unwrap();
        // It may hang up in the midst of it.
        let _ = stream.write_all(piece);
        drop(stream);
        bare.assert_answers();
    }
    drop(bare);
    node.finish();
}
