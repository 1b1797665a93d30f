//! What is said to Firecracker, held against the description of its API, what is made of its answers, and its jail.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
};

use hypercore_fixtures::{ApiAnswer, ApiRequest, Description, host::note_skipped};
use hypercore_model::machine::MachineResume;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::{
    super::sample::{self, Placeholder},
    *,
};

/// A machine in a directory of its own, with its jail made.
struct Sample {
    spec: MachineSpec,
    place: Place,
    scratch: tempfile::TempDir,
}

impl Sample {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let spec = sample::machine(Monitor::Firecracker, scratch.path());
        let own = scratch.path().join("engine/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed");
        fs::create_dir_all(&own).unwrap();
        Self { spec, place: Place::within(own), scratch }
    }

    fn resuming() -> Self {
        let mut sample = Self::new();
        let directory = sample.scratch.path().join("snapshot");
        fs::create_dir(&directory).unwrap();
        for name in ["state", "memory"] {
            fs::write(directory.join(name), name).unwrap();
        }
        sample.spec.resume = Some(MachineResume { directory, is_mapped: true });
        sample
    }

    fn command(&self) -> Command {
        Firecracker.command(&self.spec, &self.place, None).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        Jail::of(&self.place).path(name)
    }

    /// What is asked by `ask` of a server that describes itself like this.
    fn asked<T>(&self, info: &Value, ask: impl FnOnce(&Self) -> T) -> (Vec<ApiRequest>, T) {
        let answer = |request: &ApiRequest| match request.method.as_str() {
            "get" => ApiAnswer::with(info),
            _ => ApiAnswer::done(),
        };
        sample::recorded(&self.path(jail::API_SOCKET), answer, || ask(self))
    }

    fn begin(&self) -> Result<(), VmmError> {
        let mut process = Placeholder::start();
        let deadline = Instant::now() + Duration::from_secs(10);
        Firecracker.begin(&self.spec, &self.place, &mut process.0, deadline)
    }
}

fn info(version: &str, state: &str) -> Value {
    json!({ "app_name": "Firecracker", "id": "x", "state": state, "vmm_version": version })
}

/// Everything that is ever said to Firecracker.
fn conversation() -> Vec<ApiRequest> {
    let fresh = info("1.17.0", "Not started");
    let (booting, resuming) = (Sample::new(), Sample::resuming());
    booting.command();
    let (mut requests, begun) = booting.asked(&fresh, Sample::begin);
    begun.unwrap();
    resuming.command();
    let (more, begun) = resuming.asked(&fresh, Sample::begin);
    begun.unwrap();
    requests.extend(more);
    let (more, _) = booting.asked(&fresh, |sample| {
        Firecracker.pause(&sample.place).unwrap();
        for name in [jail::SAVED_STATE, jail::SAVED_MEMORY] {
            fs::write(sample.path(name), name).unwrap();
        }
        let saved = Firecracker.save(&sample.place, sample.scratch.path()).unwrap();
        assert!(saved.is_mapped);
        assert_eq!(fs::read(sample.scratch.path().join("memory")).unwrap(), b"saved-memory");
        Firecracker.go_on(&sample.place).unwrap();
    });
    requests.extend(more);
    requests
}

#[test]
fn every_request_is_one_that_is_described() {
    let Some(description) = Description::find("firecracker") else {
        note_skipped("every_request_is_one_that_is_described", "no description of Firecracker's API");
        return;
    };
    for ApiRequest { method, target, body } in conversation() {
        let checked = description.check_request(&method, &target, body.as_ref());
        checked.unwrap_or_else(|problem| panic!("{method} {target}: {problem}"));
    }
}

#[test]
fn every_answer_that_is_described_is_understood() {
    let Some(description) = Description::find("firecracker") else {
        note_skipped("every_answer_that_is_described_is_understood", "no description of Firecracker's API");
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let socket = scratch.path().join("api");
    for request in conversation() {
        let ApiRequest { method, target, body } = &request;
        for (status, bodies) in description.answers(method, target).unwrap() {
            let code: u16 = status.parse().unwrap_or(500);
            let empty = bodies.is_empty().then_some(Value::Null);
            for answer in bodies.iter().chain(&empty) {
                let text = (!answer.is_null()).then(|| answer.to_string());
                let sent = ApiAnswer { status: code, body: text };
                let client = Client::new(&socket, Instant::now() + Duration::from_secs(10));
                let (_, told) = sample::recorded(
                    &socket,
                    |_| sent.clone(),
                    || match body {
                        None => client.describe().map(drop),
                        Some(_) => client.pause(),
                    },
                );
                match (code, told) {
                    (200 | 204, told) => told.unwrap(),
                    (_, Err(VmmError::Refused { reason, .. })) => {
                        let fault = answer["fault_message"].as_str().unwrap_or("HTTP");
                        assert!(reason.contains(fault), "{reason}");
                    }
                    (code, told) => panic!("{method} {target} {code}: {told:?}"),
                }
            }
        }
    }
}

#[test]
fn a_machine_is_configured_in_order_and_then_started() {
    let sample = Sample::new();
    sample.command();
    let (requests, begun) = sample.asked(&info("1.18.3", "Not started"), Sample::begin);
    begun.unwrap();
    let said: Vec<_> =
        requests.iter().map(|request| format!("{} {}", request.method, request.target)).collect();
    assert_eq!(
        said,
        [
            "get /",
            "put /machine-config",
            "put /boot-source",
            "put /drives/disk0",
            "put /drives/disk1",
            "put /drives/disk2",
            "put /network-interfaces/net0",
            "put /vsock",
            "put /entropy",
            "put /balloon",
            "put /actions",
        ]
    );
    let body = |index: usize| requests[index].body.clone().unwrap();
    let arguments = body(2)["boot_args"].as_str().unwrap().to_owned();
    assert!(arguments.ends_with(" hypercore.disks=image,writable,volume0"), "{arguments}");
    // A third of what all three may do together.
    assert_eq!(body(3)["rate_limiter"]["bandwidth"], json!({ "size": 10 << 20, "refill_time": 1000 }));
    assert_eq!(body(3)["rate_limiter"]["ops"]["size"], 1000);
    assert_eq!((&body(3)["is_read_only"], &body(4)["is_read_only"]), (&json!(true), &json!(false)));
}

#[test]
fn a_machine_that_resumes_is_not_configured() {
    let sample = Sample::resuming();
    sample.command();
    assert_eq!(fs::read(sample.path(jail::MEMORY)).unwrap(), b"memory");
    assert!(!sample.path(jail::KERNEL).exists());
    let (requests, begun) = sample.asked(&info("1.17.0", "Not started"), Sample::begin);
    begun.unwrap();
    assert_eq!(requests.len(), 2);
    let body = requests[1].body.clone().unwrap();
    assert_eq!(body["mem_backend"], json!({ "backend_type": "File", "backend_path": "memory" }));
    assert_eq!(body["network_overrides"][0]["host_dev_name"], "hctap0");
    assert_eq!(body["vsock_override"]["uds_path"], "vsock.sock");
}

#[test]
fn another_release_or_a_machine_that_runs_already_is_refused() {
    let sample = Sample::new();
    sample.command();
    for (version, state, words) in
        [("1.16.1", "Not started", "1.17 or a later 1.x"), ("1.17.0", "Running", "Running")]
    {
        let (requests, begun) = sample.asked(&info(version, state), Sample::begin);
        assert!(begun.unwrap_err().to_string().contains(words));
        assert_eq!(requests.len(), 1);
    }
    let (_, begun) = sample.asked(&json!({ "state": "Not started" }), Sample::begin);
    assert!(matches!(begun, Err(VmmError::Garbled { .. })));
}

#[test]
fn what_it_cant_give_is_refused_before_it_is_started() {
    let mut sample = Sample::new();
    sample.spec.cpus = 33;
    let refused = Firecracker.command(&sample.spec, &sample.place, None).unwrap_err();
    assert_eq!(refused.to_string(), "firecracker can't give a machine more than 32 CPUs");
}

#[test]
fn the_jail_holds_what_the_machine_is_made_of() {
    let sample = Sample::new();
    let command = sample.command();
    let root = fs::read_link(sample.place.directory().join("jail-root")).unwrap();
    let mut names: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["disk0", "disk1", "disk2", "initrd", "kernel"]);
    let same = |name: &str, of: &str| {
        let (ours, theirs) = (sample.path(name), sample.scratch.path().join(of));
        assert_eq!(fs::metadata(ours).unwrap().ino(), fs::metadata(theirs).unwrap().ino());
    };
    same("disk0", "image.ext4");
    same("disk1", "writable.ext4");
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    let end = ["--api-sock", "api.sock"];
    assert!(arguments.ends_with(&end.map(Into::into)), "{arguments:?}");
    if geteuid().is_root() {
        assert_eq!(command.get_program(), sample.scratch.path().join("jailer"));
        let id = "1879048192";
        assert!(arguments.windows(4).any(|four| four == ["--uid", id, "--gid", id]), "{arguments:?}");
        assert_eq!(fs::metadata(sample.path("disk1")).unwrap().uid(), 0x7000_0000);
        assert_eq!(fs::metadata(sample.path("disk0")).unwrap().uid(), 0);
    }
    jail::clear(sample.place.directory()).unwrap();
    assert!(!sample.scratch.path().join("jail").exists());
    assert!(sample.scratch.path().join("image.ext4").exists());
}

#[test]
fn what_is_found_in_the_jail_is_not_believed() {
    let sample = Sample::new();
    sample.command();
    let (jail, to) = (Jail::of(&sample.place), sample.scratch.path().join("taken"));
    let secret = sample.scratch.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, sample.path("link")).unwrap();
    fs::hard_link(sample.path("disk0"), sample.path("second")).unwrap();
    fs::create_dir(sample.path("directory")).unwrap();
    for name in ["link", "second", "directory", "nothing"] {
        assert!(matches!(jail.take(name, &to), Err(VmmError::File { .. })), "{name}");
        let _ = fs::remove_dir(&to);
        assert!(!to.exists(), "{name}");
    }
    assert_eq!(fs::read(secret).unwrap(), b"secret");
    // A socket that leads elsewhere.
    let elsewhere = sample.scratch.path().join("elsewhere");
    let _listener = std::os::unix::net::UnixListener::bind(&elsewhere).unwrap();
    symlink(&elsewhere, sample.path(jail::API_SOCKET)).unwrap();
    assert!(matches!(Firecracker.pause(&sample.place), Err(VmmError::Channel { .. })));
    jail::clear(sample.place.directory()).unwrap();
}
