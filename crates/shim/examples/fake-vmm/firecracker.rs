//! Firecracker's API with its order: what is configured is configured before the start, a snapshot is made of what is
//! paused, and loaded by a process that was told nothing else (its description says so at each request).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::net::UnixListener,
    path::Path,
};

use hypercore_fixtures::{ApiAnswer, ApiRequest, api_server};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    guest::{self, Guest},
    mood::Mood,
    option, tap,
};

/// Most processors of a machine.
const CPUS: std::ops::RangeInclusive<u64> = 1..=32;

/// How far the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was said.
    Fresh,
    /// Something was configured.
    Configured,
    Running,
    Paused,
}

/// What was configured; what a snapshot's state is, here.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Config {
    kernel: Option<String>,
    /// Path and whether it is only read, by id.
    drives: BTreeMap<String, (String, bool)>,
    /// Devices on the host, by id.
    networks: BTreeMap<String, String>,
    vsock: Option<String>,
}

struct Firecracker {
    stage: Stage,
    config: Config,
    /// The devices of its networks, open.
    taps: Vec<File>,
    guest: Guest,
    mood: Mood,
}

/// Why a request is refused.
type Fault = String;

pub(crate) fn run(arguments: &[String], mood: Mood) -> io::Result<()> {
    if mood.is_dead {
        return Err(io::Error::other("/dev/kvm: no such device"));
    }
    let listener = UnixListener::bind(option(arguments, "--api-sock")?)?;
    let mut machine = Firecracker {
        stage: Stage::Fresh,
        config: Config::default(),
        taps: Vec::new(),
        guest: Guest::default(),
        mood,
    };
    api_server::serve(&listener, |request| machine.answer(&request))
}

impl Firecracker {
    fn answer(&mut self, request: &ApiRequest) -> ApiAnswer {
        self.mood.keep_silent();
        let none = Value::Null;
        let body = request.body.as_ref().unwrap_or(&none);
        let done = match (request.method.as_str(), request.target.as_str()) {
            ("get", "/") => return ApiAnswer::with(&self.info()),
            ("put", "/actions") => self.act(body),
            ("patch", "/vm") => self.change(body),
            ("put", "/snapshot/create") => self.save(body),
            ("put", "/snapshot/load") => self.load(body),
            ("put", target) => self.configure(target, body),
            _ => Err(format!("Invalid request method and/or path: {} {}.", request.method, request.target)),
        };
        match done {
            Ok(()) => ApiAnswer::done(),
            Err(fault) => ApiAnswer::refused(400, json!({ "fault_message": fault }).to_string()),
        }
    }

    fn info(&self) -> Value {
        let state = match self.stage {
            Stage::Fresh | Stage::Configured => "Not started",
            Stage::Running => "Running",
            Stage::Paused => "Paused",
        };
        let version = self.mood.release("firecracker");
        json!({ "app_name": "Firecracker", "id": "fake", "state": state, "vmm_version": version })
    }

    fn configure(&mut self, target: &str, body: &Value) -> Result<(), Fault> {
        if !matches!(self.stage, Stage::Fresh | Stage::Configured) {
            return Err("The requested operation is not supported after starting the microVM.".to_owned());
        }
        match target.split('/').collect::<Vec<_>>().as_slice() {
            ["", "machine-config"] if !body["vcpu_count"].as_u64().is_some_and(|n| CPUS.contains(&n)) => {
                return Err("The vCPU number is invalid!".to_owned());
            }
            ["", "machine-config" | "entropy" | "balloon"] => {}
            ["", "boot-source"] => {
                open(body, "initrd_path", true)?;
                self.config.kernel = Some(open(body, "kernel_image_path", true)?);
            }
            ["", "drives", id] if body["drive_id"] == *id => {
                let is_read_only = body["is_read_only"] == true;
                let path = open(body, "path_on_host", is_read_only)?;
                self.config.drives.insert((*id).to_owned(), (path, is_read_only));
            }
            ["", "network-interfaces", id] if body["iface_id"] == *id => {
                let name = text(body, "host_dev_name")?;
                self.open_tap(&name)?;
                self.config.networks.insert((*id).to_owned(), name);
            }
            ["", "vsock"] if body["guest_cid"].as_u64() >= Some(3) => {
                self.config.vsock = Some(text(body, "uds_path")?);
            }
            _ => return Err(format!("Invalid request method and/or path: PUT {target}.")),
        }
        self.stage = Stage::Configured;
        Ok(())
    }

    fn act(&mut self, body: &Value) -> Result<(), Fault> {
        if body["action_type"] != "InstanceStart" {
            return Err(format!("unknown variant {}", body["action_type"]));
        }
        if !matches!(self.stage, Stage::Fresh | Stage::Configured) {
            return Err("The requested operation is not supported after starting the microVM.".to_owned());
        }
        if self.config.kernel.is_none() {
            return Err("Cannot start microvm without kernel configuration.".to_owned());
        }
        self.run_guest()?;
        self.stage = Stage::Running;
        Ok(())
    }

    fn change(&mut self, body: &Value) -> Result<(), Fault> {
        let is_started = matches!(self.stage, Stage::Running | Stage::Paused);
        self.stage = match body["state"].as_str() {
            Some("Paused") if is_started => Stage::Paused,
            Some("Resumed") if is_started => Stage::Running,
            Some("Paused" | "Resumed") => {
                return Err(
                    "The requested operation is not supported before starting the microVM.".to_owned()
                );
            }
            _ => return Err(format!("unknown variant {}", body["state"])),
        };
        Ok(())
    }

    fn save(&self, body: &Value) -> Result<(), Fault> {
        if self.stage != Stage::Paused || self.mood.refuses_to_save {
            return Err("Create snapshot error: Cannot save microVM state: not paused.".to_owned());
        }
        let state = serde_json::to_vec(&self.config).map_err(|error| error.to_string())?;
        for (name, bytes) in [("snapshot_path", state), ("mem_file_path", b"the memory".to_vec())] {
            fs::write(text(body, name)?, bytes).map_err(|error| format!("Create snapshot error: {error}"))?;
        }
        // Saving the vsock device resets it, for the machine that goes on as well.
        self.guest.reset();
        Ok(())
    }

    fn load(&mut self, body: &Value) -> Result<(), Fault> {
        if self.stage != Stage::Fresh {
            return Err("Loading a microVM snapshot not allowed after configuring boot-specific resources."
                .to_owned());
        }
        open(&body["mem_backend"], "backend_path", true)?;
        let state = fs::read(text(body, "snapshot_path")?).map_err(|error| error.to_string())?;
        self.config =
            serde_json::from_slice(&state).map_err(|error| format!("Load snapshot error: {error}"))?;
        for change in body["network_overrides"].as_array().into_iter().flatten() {
            let id = text(change, "iface_id")?;
            let network = self.config.networks.get_mut(&id);
            *network.ok_or("Unknown Network Device.")? = text(change, "host_dev_name")?;
        }
        if !body["vsock_override"].is_null() {
            self.config.vsock = Some(text(&body["vsock_override"], "uds_path")?);
        }
        for name in self.config.networks.values().cloned().collect::<Vec<_>>() {
            self.open_tap(&name)?;
        }
        // At the paths of the machine that was saved.
        for (path, is_read_only) in self.config.drives.values() {
            open(&json!({ "path": path }), "path", *is_read_only)?;
        }
        self.run_guest()?;
        self.stage = if body["resume_vm"] == true { Stage::Running } else { Stage::Paused };
        Ok(())
    }

    fn open_tap(&mut self, name: &str) -> Result<(), Fault> {
        self.taps.push(tap::open(name).map_err(|error| format!("Open tap device failed: {name}: {error}"))?);
        Ok(())
    }

    fn run_guest(&mut self) -> Result<(), Fault> {
        let Some(socket) = &self.config.vsock else { return Ok(()) };
        let served = guest::serve(Path::new(socket), self.mood.clone());
        self.guest = served.map_err(|error| format!("vsock: {error}"))?;
        Ok(())
    }
}

fn text(body: &Value, name: &str) -> Result<String, Fault> {
    body[name].as_str().map(str::to_owned).ok_or_else(|| format!("missing field `{name}`"))
}

/// The path in a field, if it can be opened as it shall be.
fn open(body: &Value, name: &str, is_read_only: bool) -> Result<String, Fault> {
    let path = text(body, name)?;
    let opened = File::options().read(true).write(!is_read_only).open(&path);
    opened.map_err(|error| format!("{path}: {error}"))?;
    Ok(path)
}
