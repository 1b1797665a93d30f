//! The guest over vsock, as Firecracker and Cloud Hypervisor offer it: a real kernel's socket behind a Unix socket of
//! the host. QEMU runs the machine, in software, and `vhost-device-vsock` is the device. It refuses to be skipped
//! silently: without the device's program it says so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hypercore_fixtures::{guest_kernel, skip_without_machines, skip_without_vsock, vsock_device, wait_until};
use hypercore_model::Digest;
use hypercore_runtime::machine::{disk, initramfs, kernel::Kernel, root_image};
use hypercore_wire::{
    Decoder, Flags, Frame, Message, StreamId,
    message::{Exec, Exit, Prepare, Window},
    negotiation::greeting,
};

/// A machine in software on a loaded host boots for half a minute.
const SOON: Duration = Duration::from_secs(60);
/// Longest wait for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// The guest agent's port.
const PORT: u32 = 9999;
/// Disk of the machine, in bytes. It takes no room before it is written.
const DISK_BYTES: u64 = 1 << 28;

/// A process that ends with the test, also when that fails.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A machine with its vsock device.
struct Machine {
    scratch: tempfile::TempDir,
    _monitor: Ends,
    _device: Ends,
}

/// A conversation in frames.
struct Conversation {
    stream: UnixStream,
    decoder: Decoder,
}

#[test]
fn a_guest_is_spoken_with_over_vsock() {
    let test = "a_guest_is_spoken_with_over_vsock";
    if skip_without_machines(test) || skip_without_vsock(test) {
        return;
    }
    let machine = Machine::boot();
    let before = machine.ask("{\"cmd\":\"true\"}\n");
    assert!(before["error"].as_str().unwrap().contains("not prepared"), "{before}");
    let mut conversation = machine.converse();
    conversation.prepare();
    conversation.begin();
    conversation.executes();

    let asked = machine
        .ask("{\"cmd\":\"sh\",\"args\":[\"-c\",\"echo $K; echo why >&2; exit 3\"],\"env\":[\"K=V\"]}\n");
    let expected = serde_json::json!({"exit_code": 3, "stdout": "V\n", "stderr": "why\n", "error": ""});
    assert_eq!(asked, expected);
    let asked = machine.ask("{\"cmd\":\"nosuchcommand\"}\n");
    assert!(
        asked["exit_code"] == -1 && asked["error"].as_str().unwrap().contains("nosuchcommand"),
        "{asked}"
    );

    machine.outlives_nonsense();
    // The conversation that was there all the time has heard nothing of it.
    conversation.executes();
}

impl Machine {
    fn boot() -> Self {
        let scratch = tempfile::Builder::new().prefix("hypercore-vsock-").tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        let mut device = Command::new(vsock_device().unwrap());
        device.arg("--socket").arg(path("device.sock")).arg("--uds-path").arg(path("vm.sock"));
        device.stdin(Stdio::null()).stdout(Stdio::null());
        let device = Ends(device.spawn().unwrap());
        assert!(wait_until(SOON, || path("device.sock").exists().then_some(())).is_some(), "no device");
        let monitor = Ends(Self::monitor(scratch.path()).stdin(Stdio::null()).spawn().unwrap());
        Self { scratch, _monitor: monitor, _device: device }
    }

    fn monitor(scratch: &Path) -> Command {
        let kernel = Kernel::in_tree(&guest_kernel().unwrap()).unwrap();
        let agent = Path::new(env!("CARGO_BIN_EXE_hypercore-vmm")).with_file_name("hypercore-guest");
        assert!(agent.is_file(), "build the guest agent first: cargo xtask guest");
        let initramfs = initramfs::build(&kernel, &agent, scratch).unwrap();
        let mut command = Command::new("/usr/bin/qemu-system-x86_64");
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-nographic",
            "-no-reboot",
            "-accel",
            "tcg,tb-size=64",
        ]);
        command.args(["-machine", "q35,memory-backend=memory", "-cpu", "max", "-m", "256M", "-object"]);
        // The device reads and writes the guest's memory itself.
        command.arg("memory-backend-memfd,id=memory,size=256M,share=on");
        command.args(["-append", "console=ttyS0 quiet panic=-1 reboot=t"]).arg("-kernel").arg(kernel.image);
        command.arg("-initrd").arg(initramfs).arg("-serial");
        command.arg(format!("file:{}", scratch.join("console.log").display())).arg("-chardev");
        command.arg(format!("socket,id=vsock,path={}", scratch.join("device.sock").display()));
        command.args(["-device", "vhost-user-vsock-pci,chardev=vsock"]);
        for (serial, path, options) in
            [("image", image(scratch), ",readonly=on"), ("writable", writable(scratch), "")]
        {
            command.arg("-drive");
            command.arg(format!("if=none,id={serial},format=raw{options},file={}", path.display()));
            command.args(["-device", &format!("virtio-blk-pci,drive={serial},serial={serial}")]);
        }
        command
    }

    /// Connects to the guest's port: the device answers `OK` and a port of the host's when the guest has accepted.
    fn dial(&self) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(self.scratch.path().join("vm.sock"))?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
        stream.write_all(format!("CONNECT {PORT}\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&line);
        let number = line.strip_prefix("OK ").and_then(|rest| rest.trim_end().parse::<u32>().ok());
        number.map(|_| stream).ok_or_else(|| io::Error::other(line.into_owned()))
    }

    #[track_caller]
    fn connect(&self) -> UnixStream {
        let connected = wait_until(SOON, || self.dial().ok());
        let console = || fs::read_to_string(self.scratch.path().join("console.log"));
        connected.unwrap_or_else(|| panic!("the guest does not accept: {:?}", console()))
    }

    /// One line of JSON for another.
    #[track_caller]
    fn ask(&self, line: &str) -> serde_json::Value {
        let mut stream = self.connect();
        stream.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    #[track_caller]
    fn converse(&self) -> Conversation {
        let mut conversation = Conversation { stream: self.connect(), decoder: Decoder::new() };
        conversation.send(StreamId::CONNECTION, greeting());
        let (stream, message) = conversation.next().expect("the guest greets");
        assert!(stream == StreamId::CONNECTION && matches!(message, Message::Hello(_)), "{message:?}");
        conversation
    }

    /// What is no conversation ends alone: with an error where it began as one, and never with the guest.
    fn outlives_nonsense(&self) {
        let flood = vec![0xA5; 1 << 20];
        for nonsense in [
            b"\n".as_slice(),
            // A frame of 1 GiB, announced and begun.
            b"\x40\x00\x00\x00\x00\x00\x00\x00\x01beginning",
            // A frame that is one, and none of the protocol's.
            b"\x00\x00\x00\x09\x00\x00\x00\x00\x00\xff\xff\xff\xff",
            b"{\"cmd\":7}\n",
            &flood,
        ] {
            let mut stream = self.connect();
            // It may hang up in the midst of it.
            let _ = stream.write_all(nonsense);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            // The end of the connection, or of the time that an answer gets: both leave the guest as it was.
            let _ = stream.read_to_end(&mut answer);
            let asked = self.ask("{\"cmd\":\"true\"}\n");
            assert_eq!(asked["exit_code"], 0, "after {} bytes of nonsense: {asked}", nonsense.len());
        }
        let mut huge = Conversation { stream: self.connect(), decoder: Decoder::new() };
        huge.send(StreamId::CONNECTION, greeting());
        assert!(matches!(huge.next(), Some((_, Message::Hello(_)))));
        huge.stream.write_all(b"\x40\x00\x00\x00\x00\x00\x00\x01\x00").unwrap();
        let (stream, told) = huge.next().expect("a frame that is too long is answered");
        assert!(stream == StreamId::CONNECTION && matches!(told, Message::Error(_)), "{told:?}");
        assert!(huge.next().is_none(), "a conversation went on after a frame of 1 GiB");
    }
}

impl Conversation {
    fn send(&mut self, stream: StreamId, message: impl Into<Message>) {
        let frame = Frame { stream, flags: Flags::NONE, payload: message.into().encode() };
        let mut bytes = Vec::new();
        frame.encode_to(&mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message; nothing when the guest hung up.
    fn next(&mut self) -> Option<(StreamId, Message)> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some((frame.stream, Message::decode(&frame.payload).unwrap()));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(len) => self.decoder.push(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the guest does not answer: {error}"),
            }
        }
    }

    /// Has the guest mount its root.
    #[track_caller]
    fn prepare(&mut self) {
        let wanted = Prepare {
            hostname: "vsock".to_owned(),
            addresses: Vec::new(),
            gateways: Vec::new(),
            resolv_conf: String::new(),
            hosts: String::new(),
            now_ms: 1_700_000_000_000,
            entropy: vec![7; 32],
            mounts: Vec::new(),
            read_only: false,
            hardware_address: None,
            is_point_to_point: true,
            pids_max: None,
        };
        self.send(StreamId(1), wanted);
        let (stream, answer) = self.next().expect("the guest answers");
        assert!(stream == StreamId(1) && matches!(answer, Message::Done(_)), "{answer:?}");
    }

    /// Starts the workload's first process, without which there is no other.
    #[track_caller]
    fn begin(&mut self) {
        let stream = StreamId(3);
        self.send(stream, exec(&["sleep", "1000"]));
        let (of, answer) = self.next().expect("the guest answers");
        assert!(of == stream && matches!(answer, Message::ExecStarted(_)), "{answer:?}");
    }

    /// Executes a process: its output, its exit status, and the machine's name.
    #[track_caller]
    fn executes(&mut self) {
        let stream = StreamId(7);
        self.send(stream, exec(&["sh", "-c", "hostname; exit 7"]));
        self.send(stream, Window { bytes: 65536 });
        let (mut output, mut is_started) = (Vec::new(), false);
        loop {
            let (of, message) = self.next().expect("the execution goes on");
            assert_eq!(of, stream, "{message:?}");
            match message {
                Message::ExecStarted(_) => is_started = true,
                Message::Stdout(piece) => output.extend_from_slice(&piece.data),
                Message::ExecExited(exited) => {
                    assert_eq!((is_started, exited.exit), (true, Exit::Code(7)));
                    break;
                }
                // How much input it would take.
                Message::Window(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(String::from_utf8_lossy(&output), "vsock\n");
    }
}

fn exec(argv: &[&str]) -> Exec {
    let argv = argv.iter().map(|&argument| argument.to_owned()).collect();
    let env = vec!["PATH=/bin".to_owned()];
    Exec { argv, env, cwd: None, user: None, tty: false, stdin: false, size: None }
}

/// busybox under the names that are used here.
fn image(scratch: &Path) -> PathBuf {
    let tree = scratch.join("tree");
    for directory in ["bin", "dev", "etc", "proc", "sys"] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    for applet in ["sh", "true", "hostname", "sleep"] {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    root_image::build(&digest, &[tree], scratch).unwrap()
}

fn writable(scratch: &Path) -> PathBuf {
    let path = scratch.join("writable.ext4");
    disk::create(&path, Some(DISK_BYTES), scratch).unwrap();
    path
}
