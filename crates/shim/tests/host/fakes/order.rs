//! The fakes themselves: what they are asked in another order than the documented one, they refuse. Without that, that
//! a client gets along with them would show nothing.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hypercore_fixtures::wait_until;
use hypercore_model::machine::Monitor;
use serde_json::{Value, json};

use super::Node;

/// A fake by itself.
struct Fake {
    process: Child,
    socket: PathBuf,
    node: Node,
}

impl Fake {
    fn start(monitor: Monitor) -> Self {
        let node = Node::new(monitor, "");
        let socket = node.path("api");
        let mut command = Command::new(node.path("bin").join(monitor.as_str()));
        match monitor {
            Monitor::Firecracker => command.arg("--api-sock").arg(&socket),
            _ => command.arg("--api-socket").arg(format!("path={}", socket.display())),
        };
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        wait_until(Duration::from_secs(10), || UnixStream::connect(&socket).ok()).unwrap();
        Self { process, socket, node }
    }

    /// The status of the answer, and its body.
    fn ask(&self, method: &str, target: &str, body: &Value) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let len = body.len();
        write!(stream, "{method} {target} HTTP/1.1\r\nContent-Length: {len}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn text(&self, name: &str) -> String {
        path(&self.node.path(name))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn firecracker_takes_requests_in_their_order_alone() {
    let fake = Fake::start(Monitor::Firecracker);
    let (state, memory) = (fake.text("state"), fake.text("memory"));
    let boot = json!({ "kernel_image_path": fake.text("vmlinux"), "initrd_path": fake.text("initrd") });
    let missing = json!({ "kernel_image_path": fake.text("none"), "initrd_path": fake.text("initrd") });
    let start = json!({ "action_type": "InstanceStart" });
    let (pause, resume) = (json!({ "state": "Paused" }), json!({ "state": "Resumed" }));
    let save = json!({ "snapshot_path": state, "mem_file_path": memory });
    let backend = json!({ "backend_type": "File", "backend_path": memory });
    let load = json!({ "snapshot_path": state, "mem_backend": backend });
    let vsock = json!({ "guest_cid": 3, "uds_path": fake.text("vsock") });
    for (method, target, body, status) in [
        ("PUT", "/actions", &start, 400),
        ("PATCH", "/vm", &pause, 400),
        ("PUT", "/snapshot/create", &save, 400),
        ("PUT", "/boot-source", &missing, 400),
        ("PUT", "/machine-config", &json!({ "vcpu_count": 33, "mem_size_mib": 128 }), 400),
        ("PUT", "/nothing", &json!({}), 400),
        ("PUT", "/boot-source", &boot, 204),
        ("PUT", "/vsock", &vsock, 204),
        ("PUT", "/snapshot/load", &load, 400),
        ("PUT", "/actions", &start, 204),
        ("PUT", "/boot-source", &boot, 400),
        ("PUT", "/actions", &start, 400),
        ("PUT", "/snapshot/create", &save, 400),
        ("PATCH", "/vm", &pause, 204),
        ("PUT", "/snapshot/create", &save, 204),
        ("PUT", "/snapshot/load", &load, 400),
        ("PATCH", "/vm", &resume, 204),
    ] {
        let (answered, words) = fake.ask(method, target, body);
        assert_eq!(answered, status, "{method} {target}: {words}");
        assert_eq!(words.contains("fault_message"), status == 400, "{words}");
    }
    fs::remove_file(fake.node.path("vsock")).unwrap();
    let other = Fake::start(Monitor::Firecracker);
    assert_eq!(other.ask("PUT", "/snapshot/load", &load).0, 204);
    assert!(other.ask("GET", "/", &Value::Null).1.contains("Paused"));
}

#[test]
fn cloud_hypervisor_takes_requests_in_their_order_alone() {
    let fake = Fake::start(Monitor::CloudHypervisor);
    let url = format!("file://{}", fake.text("snapshot"));
    let create = json!({
        "payload": { "kernel": fake.text("vmlinux"), "initramfs": fake.text("initrd") },
        "vsock": { "cid": 3, "socket": fake.text("vsock") },
    });
    let missing = json!({ "payload": { "kernel": fake.text("none") } });
    let (save, restore) = (json!({ "destination_url": url }), json!({ "source_url": url }));
    let nothing = &Value::Null;
    for (target, body, status) in [
        ("vm.boot", nothing, 404),
        ("vm.pause", nothing, 404),
        ("vm.snapshot", &save, 404),
        ("vm.create", &missing, 500),
        ("vm.create", &create, 204),
        ("vm.create", &create, 500),
        ("vm.restore", &restore, 404),
        ("vm.pause", nothing, 405),
        ("vm.snapshot", &save, 500),
        ("vm.boot", nothing, 204),
        ("vm.snapshot", &save, 500),
        ("vm.resume", nothing, 405),
        ("vm.pause", nothing, 204),
        ("vm.snapshot", &save, 204),
        ("vm.resume", nothing, 204),
    ] {
        let (answered, words) = fake.ask("PUT", &format!("/api/v1/{target}"), body);
        assert_eq!(answered, status, "{target}: {words}");
    }
    fs::remove_file(fake.node.path("vsock")).unwrap();
    let other = Fake::start(Monitor::CloudHypervisor);
    assert_eq!(other.ask("PUT", "/api/v1/vm.restore", &restore).0, 204);
    assert!(other.ask("GET", "/api/v1/vm.info", nothing).1.contains("Paused"));
}
