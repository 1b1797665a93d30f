//! What is said to Cloud Hypervisor, held against the description of its API, and what is made of its answers.

use std::fs;

use hypercore_fixtures::{ApiAnswer, ApiRequest, Description, host::note_skipped};
use hypercore_model::machine::{MachineResume, MachineShare};
use serde_json::{Value, json};

use super::{
    super::sample::{self, Placeholder},
    *,
};

/// A machine in a directory of its own.
struct Sample {
    spec: MachineSpec,
    place: Place,
    scratch: tempfile::TempDir,
}

impl Sample {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let spec = sample::machine(Monitor::CloudHypervisor, scratch.path());
        let own = scratch.path().join("engine");
        fs::create_dir_all(&own).unwrap();
        Self { spec, place: Place::within(own), scratch }
    }

    /// One that goes on from a snapshot of another.
    fn resuming(from: &Self) -> Self {
        let mut sample = Self::new();
        let directory = from.scratch.path().join("snapshot");
        sample.spec.resume = Some(MachineResume { directory, is_mapped: true });
        sample
    }

    /// What is asked by `ask` of a server of this release, which writes snapshots.
    fn asked<T>(&self, version: &str, ask: impl FnOnce(&Self) -> T) -> (Vec<ApiRequest>, T) {
        let config = config(&self.spec, &self.place);
        let answer = |request: &ApiRequest| match request.target.as_str() {
            "/api/v1/vmm.ping" => ApiAnswer::with(&json!({ "version": version, "pid": 1 })),
            "/api/v1/vm.info" => ApiAnswer::with(&json!({ "state": "Running", "config": {} })),
            "/api/v1/vm.snapshot" => {
                let url = request.body.as_ref().unwrap()["destination_url"].as_str().unwrap();
                let directory = Path::new(url.strip_prefix("file://").unwrap());
                let mut saved = serde_json::to_value(&config).unwrap();
                saved["cpus"]["kvm_hyperv"] = json!(false);
                fs::write(directory.join("config.json"), saved.to_string()).unwrap();
                fs::write(directory.join("state.json"), "{\"tsc\": 123456789012345678901234567890}").unwrap();
                fs::write(directory.join("memory-ranges"), "memory").unwrap();
                ApiAnswer::done()
            }
            _ => ApiAnswer::done(),
        };
        sample::recorded(&self.place.control(), answer, || ask(self))
    }

    fn begin(&self) -> Result<(), VmmError> {
        let mut process = Placeholder::start();
        let deadline = Instant::now() + Duration::from_secs(10);
        CloudHypervisor.begin(&self.spec, &self.place, &mut process.0, deadline)
    }

    /// Gives it a directory of the host.
    fn share(&mut self) {
        self.spec.shares.push(MachineShare {
            tag: "share0".to_owned(),
            directory: self.scratch.path().to_owned(),
            read_only: true,
            program: "/usr/libexec/virtiofsd".into(),
        });
    }

    /// Pauses, saves and goes on.
    fn save(&self) {
        let directory = self.scratch.path().join("snapshot");
        fs::create_dir(&directory).unwrap();
        CloudHypervisor.pause(&self.place).unwrap();
        CloudHypervisor.save(&self.place, &directory).unwrap();
        CloudHypervisor.go_on(&self.place).unwrap();
    }
}

/// Everything that is ever said to Cloud Hypervisor, without what comes before each target.
fn conversation() -> Vec<ApiRequest> {
    let first = Sample::new();
    let (mut requests, begun) = first.asked("53.0.0", Sample::begin);
    begun.unwrap();
    let (more, ()) = first.asked("53.0.0", Sample::save);
    requests.extend(more);
    let (more, begun) = Sample::resuming(&first).asked("53.0.0", Sample::begin);
    begun.unwrap();
    requests.extend(more);
    let mut sharing = Sample::new();
    sharing.share();
    let (more, begun) = sharing.asked("53.0.0", Sample::begin);
    begun.unwrap();
    requests.extend(more);
    for request in &mut requests {
        request.target = request.target.strip_prefix("/api/v1").unwrap().to_owned();
    }
    requests
}

#[test]
fn every_request_is_one_that_is_described() {
    let Some(description) = Description::find("cloud-hypervisor") else {
        note_skipped("every_request_is_one_that_is_described", "no description of Cloud Hypervisor's API");
        return;
    };
    for ApiRequest { method, target, body } in conversation() {
        let checked = description.check_request(&method, &target, body.as_ref());
        checked.unwrap_or_else(|problem| panic!("{method} {target}: {problem}"));
    }
}

#[test]
fn every_answer_that_is_described_is_understood() {
    let Some(description) = Description::find("cloud-hypervisor") else {
        note_skipped(
            "every_answer_that_is_described_is_understood",
            "no description of Cloud Hypervisor's API",
        );
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let socket = scratch.path().join("api");
    for ApiRequest { method, target, .. } in conversation() {
        for (status, bodies) in description.answers(&method, &target).unwrap() {
            let code: u16 = status.parse().unwrap();
            let empty = bodies.is_empty().then_some(Value::Null);
            for answer in bodies.iter().chain(&empty) {
                let text = (!answer.is_null()).then(|| answer.to_string());
                let sent = ApiAnswer { status: code, body: text };
                let client = Client::new(&socket, Instant::now() + Duration::from_secs(10));
                let (_, told) = sample::recorded(
                    &socket,
                    |_| sent.clone(),
                    || match target.as_str() {
                        "/vmm.ping" => client.ping().map(drop),
                        "/vm.info" => client.info().map(drop),
                        _ => client.boot(),
                    },
                );
                match (code, told) {
                    (200 | 204, told) => told.unwrap(),
                    (_, Err(VmmError::Refused { reason, .. })) => {
                        assert!(reason.contains(&status), "{reason}")
                    }
                    (code, told) => panic!("{method} {target} {code}: {told:?}"),
                }
            }
        }
    }
}

#[test]
fn a_machine_is_made_and_then_booted() {
    let said: Vec<_> = conversation().into_iter().map(|request| request.target).collect();
    let (boot, resume) = (["/vmm.ping", "/vm.create", "/vm.boot", "/vm.info"], ["/vmm.ping", "/vm.restore"]);
    assert_eq!(said[..4], boot);
    assert_eq!(said[4..7], ["/vm.pause", "/vm.snapshot", "/vm.resume"]);
    assert_eq!(said[7..9], resume);
    assert_eq!(said[9..11], ["/vm.resume", "/vm.info"]);
    assert_eq!(said[11..], boot);
    let create = conversation().remove(1).body.unwrap();
    assert_eq!(create["rate_limit_groups"][0]["rate_limiter_config"]["ops"]["size"], 3000);
    assert_eq!(create["disks"][1]["rate_limit_group"], "disks");
    assert_eq!(create["disks"][1]["image_type"], "Raw");
    assert_eq!(create["vsock"]["cid"], 3);
    assert_eq!(create["memory"]["shared"], false);
    let sharing = conversation().remove(12).body.unwrap();
    assert!(sharing["fs"][0]["socket"].as_str().unwrap().ends_with("/share0.sock"));
    assert_eq!(sharing["memory"]["shared"], true);
}

#[test]
fn a_machine_that_resumes_has_paths_and_a_network_of_its_own() {
    let first = Sample::new();
    first.asked("53.0.0", Sample::save);
    let files: Vec<_> = fs::read_dir(first.scratch.path().join("snapshot")).unwrap().collect();
    assert_eq!(files.len(), 2, "state and memory");
    let mut second = Sample::resuming(&first);
    second.spec.network.as_mut().unwrap().tap = "hctap1".to_owned();
    let (requests, begun) = second.asked("53.0.0", Sample::begin);
    begun.unwrap();
    let url = requests[1].body.as_ref().unwrap()["source_url"].as_str().unwrap().to_owned();
    let whole = Path::new(url.strip_prefix("file://").unwrap());
    let config: Value = serde_json::from_slice(&fs::read(whole.join("config.json")).unwrap()).unwrap();
    let text = config.to_string();
    assert!(!text.contains(first.scratch.path().to_str().unwrap()), "{text}");
    assert_eq!(config["net"][0]["tap"], "hctap1");
    assert_eq!(config["cpus"]["kvm_hyperv"], false);
    assert_eq!(fs::read(whole.join("memory-ranges")).unwrap(), b"memory");
    let devices = fs::read_to_string(whole.join("state.json")).unwrap();
    assert!(devices.contains("123456789012345678901234567890"), "a number has changed");
}

#[test]
fn nothing_is_left_of_a_snapshot_that_failed() {
    let sample = Sample::new();
    let directory = sample.scratch.path().join("snapshot");
    fs::create_dir(&directory).unwrap();
    // Once refused, and once said to be done with nothing written.
    for answer in [ApiAnswer::refused(500, String::new()), ApiAnswer::done()] {
        let save = || CloudHypervisor.save(&sample.place, &directory);
        let (_, told) = sample::recorded(&sample.place.control(), |_| answer.clone(), save);
        assert!(told.is_err());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }
}

#[test]
fn a_snapshot_of_something_else_is_refused() {
    let first = Sample::new();
    first.asked("53.0.0", Sample::save);
    let mut second = Sample::resuming(&first);
    second.spec.disks.pop();
    let deny = |sample: &Sample| {
        let (requests, begun) = sample.asked("53.0.0", Sample::begin);
        assert!(matches!(begun, Err(VmmError::File { .. })), "{begun:?}");
        assert_eq!(requests.len(), 1);
    };
    deny(&second);
    let mut third = Sample::resuming(&first);
    third.spec.disks[2].serial = "another".to_owned();
    deny(&third);
    let mut sharing = Sample::new();
    sharing.share();
    sharing.asked("53.0.0", Sample::save);
    deny(&Sample::resuming(&sharing));
    for state in
        ["", "{}", "{\"config\": [], \"devices\": {}}", "{\"config\": {\"disks\": 1}, \"devices\": 1}"]
    {
        fs::write(first.scratch.path().join("snapshot/state"), state).unwrap();
        deny(&Sample::resuming(&first));
    }
}

#[test]
fn another_release_is_refused_and_so_is_a_machine_that_does_not_run() {
    let sample = Sample::new();
    let (requests, begun) = sample.asked("49.0.0", Sample::begin);
    assert!(begun.unwrap_err().to_string().contains("51.0 or later"));
    assert_eq!(requests.len(), 1);
    let answer = |request: &ApiRequest| match request.target.as_str() {
        "/api/v1/vmm.ping" => ApiAnswer::with(&json!({ "version": "v51.0" })),
        "/api/v1/vm.info" => ApiAnswer::with(&json!({ "state": "Shutdown", "config": {} })),
        _ => ApiAnswer::done(),
    };
    let (_, begun) = sample::recorded(&sample.place.control(), answer, || sample.begin());
    assert!(matches!(begun, Err(VmmError::Garbled { .. })), "{begun:?}");
}

#[test]
fn its_refusals_are_shown_in_its_words() {
    let sample = Sample::new();
    for (body, words) in [
        ("[\"The VM could not boot\",\"No kernel\"]", "The VM could not boot: No kernel (HTTP 500)"),
        ("InternalServerError\n", "InternalServerError (HTTP 500)"),
        ("", "HTTP 500"),
    ] {
        let refuse = |_: &ApiRequest| ApiAnswer::refused(500, body.to_owned());
        let (_, told) =
            sample::recorded(&sample.place.control(), refuse, || CloudHypervisor.pause(&sample.place));
        assert_eq!(
            told.unwrap_err().to_string(),
            format!("the engine refused to pause the machine: {words}")
        );
    }
}
