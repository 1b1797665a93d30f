//! Cloud Hypervisor's API with its order: a machine is created, then booted; one that is paused can be saved; one is
//! restored where there is none, and is paused then (its description says so at each request).

use std::{
    fs::{self, File},
    io,
    os::unix::net::UnixListener,
    path::Path,
};

use hypercore_fixtures::{ApiAnswer, ApiRequest, api_server};
use serde_json::{Value, json};

use crate::{guest, mood::Mood, option, tap};

/// How far the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is none.
    None,
    Created,
    Running,
    Paused,
}

struct CloudHypervisor {
    stage: Stage,
    config: Value,
    /// The devices of its networks, open.
    taps: Vec<File>,
    mood: Mood,
}

/// The status of a refusal, and its words.
type Fault = (u16, String);

pub(crate) fn run(arguments: &[String], mood: Mood) -> io::Result<()> {
    if mood.is_dead {
        return Err(io::Error::other("/dev/kvm: no such device"));
    }
    let socket = option(arguments, "--api-socket")?.strip_prefix("path=");
    let listener = UnixListener::bind(socket.ok_or_else(|| io::Error::other("path= is missing"))?)?;
    let mut machine = CloudHypervisor { stage: Stage::None, config: Value::Null, taps: Vec::new(), mood };
    api_server::serve(&listener, |request| machine.answer(&request))
}

impl CloudHypervisor {
    fn answer(&mut self, request: &ApiRequest) -> ApiAnswer {
        self.mood.keep_silent();
        let none = Value::Null;
        let body = request.body.as_ref().unwrap_or(&none);
        let target = request.target.strip_prefix("/api/v1").unwrap_or_default();
        let done = match (request.method.as_str(), target) {
            ("get", "/vmm.ping") => {
                let version = format!("v{}", self.mood.release("cloud-hypervisor"));
                return ApiAnswer::with(&json!({ "version": version, "build_version": version, "pid": 1 }));
            }
            ("get", "/vm.info") => match self.stage {
                Stage::None => Err((404, "VM is not created".to_owned())),
                stage => {
                    let state = format!("{stage:?}");
                    return ApiAnswer::with(&json!({ "config": self.config, "state": state }));
                }
            },
            ("put", "/vm.create") => self.create(body),
            ("put", "/vm.boot") => self.boot(),
            ("put", "/vm.pause") => self.step(Stage::Running, Stage::Paused),
            ("put", "/vm.resume") => self.step(Stage::Paused, Stage::Running),
            ("put", "/vm.snapshot") => self.save(body),
            ("put", "/vm.restore") => self.restore(body),
            _ => Err((404, "Not Found".to_owned())),
        };
        match done {
            Ok(()) => ApiAnswer::done(),
            Err((status, words)) => ApiAnswer::refused(status, json!(["Error from API", words]).to_string()),
        }
    }

    fn create(&mut self, body: &Value) -> Result<(), Fault> {
        if self.stage != Stage::None {
            return Err((500, "VM is already created".to_owned()));
        }
        for name in ["kernel", "initramfs"] {
            open(&body["payload"][name], true)?;
        }
        self.config = body.clone();
        self.stage = Stage::Created;
        Ok(())
    }

    fn boot(&mut self) -> Result<(), Fault> {
        match self.stage {
            Stage::None => return Err((404, "VM is not created".to_owned())),
            Stage::Created => self.run_guest()?,
            _ => return Err((500, "VM is already running".to_owned())),
        }
        self.stage = Stage::Running;
        Ok(())
    }

    fn step(&mut self, from: Stage, to: Stage) -> Result<(), Fault> {
        match self.stage {
            Stage::None => Err((404, "VM is not created".to_owned())),
            stage if stage == from => {
                self.stage = to;
                Ok(())
            }
            stage => Err((405, format!("VM is {stage:?}"))),
        }
    }

    fn save(&self, body: &Value) -> Result<(), Fault> {
        match self.stage {
            Stage::None => return Err((404, "VM is not created".to_owned())),
            Stage::Paused if !self.mood.refuses_to_save => {}
            stage => return Err((500, format!("VM is {stage:?} and not paused"))),
        }
        let directory = directory(&body["destination_url"])?;
        for (name, text) in [
            ("config.json", self.config.to_string()),
            ("state.json", "{\"id\": \"\", \"snapshots\": {}}".to_owned()),
            ("memory-ranges", "the memory".to_owned()),
        ] {
            fs::write(directory.join(name), text).map_err(|error| (500, error.to_string()))?;
        }
        Ok(())
    }

    fn restore(&mut self, body: &Value) -> Result<(), Fault> {
        if self.stage != Stage::None {
            return Err((404, "VM is already created".to_owned()));
        }
        let directory = directory(&body["source_url"])?;
        let read =
            |name: &str| fs::read(directory.join(name)).map_err(|error| (500, format!("{name}: {error}")));
        for name in ["state.json", "memory-ranges"] {
            read(name)?;
        }
        self.config =
            serde_json::from_slice(&read("config.json")?).map_err(|error| (400, error.to_string()))?;
        self.run_guest()?;
        self.stage = Stage::Paused;
        Ok(())
    }

    /// Opens what the machine is made of, and lets its guest be reached.
    fn run_guest(&mut self) -> Result<(), Fault> {
        for net in self.config["net"].as_array().into_iter().flatten() {
            let opened = tap::open(net["tap"].as_str().unwrap_or_default());
            self.taps.push(opened.map_err(|error| (500, format!("{}: {error}", net["tap"])))?);
        }
        for disk in self.config["disks"].as_array().into_iter().flatten() {
            open(&disk["path"], disk["readonly"] == true)?;
        }
        if self.config["serial"]["mode"] == "File" {
            let path = self.config["serial"]["file"].as_str().unwrap_or_default();
            File::create(path).map_err(|error| (500, format!("{path}: {error}")))?;
        }
        let socket = self.config["vsock"]["socket"].as_str().unwrap_or_default();
        let served = guest::serve(Path::new(socket), self.mood.clone());
        served.map(drop).map_err(|error| (500, format!("{socket}: {error}")))
    }
}

fn directory(url: &Value) -> Result<&Path, Fault> {
    let path = url.as_str().and_then(|url| url.strip_prefix("file://"));
    let directory = path.map(Path::new).filter(|path| path.is_dir());
    directory.ok_or_else(|| (400, format!("{url} is no directory")))
}

/// Whether a file can be opened as it shall be.
fn open(path: &Value, is_read_only: bool) -> Result<(), Fault> {
    let path = path.as_str().unwrap_or_default();
    let opened = File::options().read(true).write(!is_read_only).open(path);
    opened.map(drop).map_err(|error| (500, format!("{path}: {error}")))
}
