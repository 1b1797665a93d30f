//! A container for tests: a busybox rootfs, the real bundle of it, and the real engine binary run on it.
//! Everything is made below one temporary directory and one cgroup, and removed again when dropped.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::{fd::AsRawFd, fd::OwnedFd, unix::fs::symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use hypercore_model::{WorkloadId, WorkloadSpec};
use hypercore_runtime::{
    bundle::{self, Bundle, BundleError, BundleRequest, Mapping},
    cgroup::{CgroupLayout, CgroupParent, Cgroups},
    volume::VolumeStore,
};
use hypercore_shim::{
    process::ProcessRequest,
    report::{Failure, Report},
};
use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{Pid, pipe},
};
use oci_spec::image::{Config, ConfigBuilder, ImageConfiguration, ImageConfigurationBuilder, RootFsBuilder};

/// Who the root of containers with a user namespace is.
pub(crate) const FIRST_ID: u32 = 0x7000_0000;

const ENGINE: &str = env!("CARGO_BIN_EXE_hypercore-engine");

/// One container and all that belongs to it.
pub(crate) struct Machine {
    /// What to run; change it before [`Self::create`].
    pub(crate) spec: WorkloadSpec,
    /// What the image says; change it before [`Self::create`].
    pub(crate) image: Config,
    /// Layers, bottom first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) id: WorkloadId,
    pub(crate) cgroups: Cgroups,
    /// Who root is on the host, if it has a user namespace.
    pub(crate) first_id: u32,
    /// A network namespace to join instead of an own one.
    pub(crate) netns: Option<PathBuf>,
    directory: tempfile::TempDir,
}

/// A process that the engine started, with its output.
pub(crate) struct Started {
    pub(crate) pid: i32,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code, or 128 and the signal.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Machine {
    /// A container that runs `script` in busybox's shell.
    pub(crate) fn shell(script: &str) -> Self {
        // Containers' processes come to us as they come to the shim.
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let directory = tempfile::Builder::new().prefix("hypercore-engine-").tempdir().unwrap();
        let random: [u8; 16] = fs::read("/proc/sys/kernel/random/uuid").unwrap()[..16].try_into().unwrap();
        let instance = directory.path().file_name().unwrap().to_str().unwrap().replace('.', "-");
        let parent = CgroupParent::new(&instance).unwrap();
        let mut spec = WorkloadSpec::of_image("test:1".parse().unwrap());
        spec.command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let layer = directory.path().join("layer:0,busybox");
        busybox(&layer);
        fs::create_dir(directory.path().join("bundle")).unwrap();
        fs::create_dir(directory.path().join("host")).unwrap();
        Self {
            spec,
            image: ConfigBuilder::default().build().unwrap(),
            layers: vec![layer],
            id: WorkloadId::from_entropy(random),
            cgroups: Cgroups::new(CgroupLayout::detect().unwrap(), parent),
            first_id: FIRST_ID,
            netns: None,
            directory,
        }
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    /// A directory of the host beside everything else, for what the test itself needs.
    pub(crate) fn host(&self) -> PathBuf {
        self.directory.path().join("host")
    }

    /// The image's only layer, to be made worse.
    pub(crate) fn layer(&self) -> &Path {
        &self.layers[0]
    }

    /// What is in a volume.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.directory.path().join("volumes").join(name).join("data")
    }

    /// Where the engine keeps its notes.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("engine")
    }

    pub(crate) fn prepare(&self) -> Result<Bundle, BundleError> {
        let rootfs = RootFsBuilder::default().typ("layers").diff_ids(Vec::<String>::new()).build().unwrap();
        let image: ImageConfiguration = ImageConfigurationBuilder::default()
            .architecture("amd64")
            .os("linux")
            .rootfs(rootfs)
            .config(self.image.clone())
            .build()
            .unwrap();
        let volumes = VolumeStore::open(&self.directory.path().join("volumes")).unwrap();
        bundle::prepare(&BundleRequest {
            id: self.id,
            spec: &self.spec,
            image: &image,
            layers: &self.layers,
            directory: &self.bundle(),
            memory_directory: &self.directory.path().join("memory"),
            volumes: &volumes,
            reserved: &[self.root()],
            mapping: self
                .spec
                .user_namespace
                .then_some(Mapping { first: self.first_id, engine: Path::new(ENGINE) }),
            netns: self.netns.as_deref(),
            cgroup_path: &self.cgroups.path_of(self.id),
            resources: self.cgroups.resources(&self.spec),
        })
    }

    /// Prepares the bundle and starts the container.
    pub(crate) fn create(&self) -> Result<Started, Failure> {
        self.create_with(None)
    }

    /// As [`Self::create`], with a console socket.
    pub(crate) fn create_with(&self, console_socket: Option<&Path>) -> Result<Started, Failure> {
        self.prepare().unwrap();
        self.create_prepared(console_socket)
    }

    /// Starts the container of a bundle that is prepared already.
    pub(crate) fn create_prepared(&self, console_socket: Option<&Path>) -> Result<Started, Failure> {
        let bundle = self.bundle();
        self.engine("create", &["--bundle", bundle.to_str().unwrap()], console_socket)
    }

    /// Starts a further process.
    pub(crate) fn exec(&self, argv: &[&str]) -> Result<Started, Failure> {
        self.exec_request(&request(argv), None)
    }

    /// Starts the process of `request`.
    pub(crate) fn exec_request(
        &self,
        request: &ProcessRequest,
        console_socket: Option<&Path>,
    ) -> Result<Started, Failure> {
        let file = self.directory.path().join("process.json");
        fs::write(&file, serde_json::to_vec(request).unwrap()).unwrap();
        self.engine("exec", &["--process", file.to_str().unwrap()], console_socket)
    }

    /// Runs `create`, waits for the end, and deletes the container.
    pub(crate) fn run(&self) -> Ended {
        let ended = self.create().unwrap().wait();
        self.delete();
        ended
    }

    pub(crate) fn delete(&self) {
        let output = self.command("delete").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Whether the engine's state and all cgroups are gone.
    pub(crate) fn assert_nothing_left(&self) {
        assert!(!self.root().join(self.id.to_string()).exists());
        let path = self.cgroups.path_of(self.id);
        for mount in fs::read_dir("/sys/fs/cgroup").unwrap() {
            let directory = PathBuf::from(format!("{}{path}", mount.unwrap().path().display()));
            assert!(!directory.exists(), "{}", directory.display());
        }
        assert!(!Path::new(&format!("/sys/fs/cgroup{path}")).exists());
    }

    /// The names in the container's state directory.
    pub(crate) fn state_files(&self) -> Vec<OsString> {
        let entries = fs::read_dir(self.root().join(self.id.to_string())).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    fn command(&self, action: &str) -> Command {
        let mut command = Command::new(ENGINE);
        command.env_clear().arg(action).arg("--root").arg(self.root()).arg("--id").arg(self.id.to_string());
        command
    }

    fn engine(&self, action: &str, more: &[&str], console: Option<&Path>) -> Result<Started, Failure> {
        fs::create_dir_all(self.root()).unwrap();
        let (stdout, stderr) = (self.output(action, "out"), self.output(action, "err"));
        let (read, write) = pipe().unwrap();
        let mut command = self.command(action);
        command.args(more).arg("--report-fd").arg(write.as_raw_fd().to_string());
        if let Some(socket) = console {
            command.arg("--console-socket").arg(socket);
        }
        let mut engine = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        drop(write);
        let report = read_report(read);
        let status = engine.wait().unwrap();
        assert_eq!(status.success(), matches!(report, Report::Pid(_)), "{status} {report:?}");
        match report {
            Report::Pid(pid) => Ok(Started { pid, stdout, stderr }),
            Report::Error(failure) => Err(failure),
        }
    }

    fn output(&self, action: &str, stream: &str) -> PathBuf {
        let unique = fs::read_dir(self.directory.path()).unwrap().count();
        self.directory.path().join(format!("{action}-{unique}.{stream}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The checks of the test come first; here everything is tried, whatever failed before.
        let deleted = self.command("delete").output().is_ok_and(|output| output.status.success());
        let discarded = bundle::discard(&self.bundle());
        let closed = self.cgroups.close();
        if !std::thread::panicking() {
            assert!(deleted && discarded.is_ok(), "{discarded:?}");
            closed.unwrap();
        }
    }
}

impl Started {
    /// Waits for the end of the process and collects what it wrote.
    pub(crate) fn wait(self) -> Ended {
        let code = match waitpid(Pid::from_raw(self.pid), None).unwrap() {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
            other => panic!("{other:?}"),
        };
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Ended { code, stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }

    /// What it wrote to standard output until now.
    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap()
    }

    /// What it wrote to standard error until now.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }
}

pub(crate) fn request(argv: &[&str]) -> ProcessRequest {
    let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
    ProcessRequest { argv, env: Vec::new(), user: None, workdir: None, tty: false, size: None }
}

fn read_report(read: OwnedFd) -> Report {
    let mut reader = BufReader::new(File::from(read));
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "more than one line of report");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// A root filesystem of the host's static busybox.
fn busybox(layer: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/app"] {
        fs::create_dir_all(layer.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
        .unwrap();
    fs::write(layer.join("etc/group"), "root:x:0:\napp:x:1000:\nstaff:x:50:app\nlogs:x:60:\n").unwrap();
}
