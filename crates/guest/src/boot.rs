//! From the kernel's hand-over to a machine that can be talked to: kernel file systems, modules, the host's port.
//! It refuses to know about workloads: their root and network come with `Prepare`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
};

use crate::{link::Link, session::Machine};

/// The name of the virtio-serial port that leads to the host.
const PORT_NAME: &str = "hypercore.guest";
/// How long the port may take to appear once its driver is loaded.
const PORT_TIME_MAX: Duration = Duration::from_secs(30);
/// How often it is looked for.
const PORT_INTERVAL: Duration = Duration::from_millis(2);

/// Why the machine can't be made ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// A file system of the kernel.
    #[error("{0} can't be mounted: {1}")]
    Mount(&'static str, #[source] io::Error),
    /// The list of modules, which the host wrote into the initramfs.
    #[error("the list of modules can't be read: {0}")]
    Modules(#[source] io::Error),
    /// One of them.
    #[error("the module {0} can't be loaded: {1}")]
    Module(String, #[source] io::Error),
}

/// Mounts what the kernel offers and loads the modules that the host packed, in its order.
pub(crate) fn begin() -> Result<(), BootError> {
    for (kind, target, options) in [
        ("proc", "/proc", ""),
        ("sysfs", "/sys", ""),
        ("devtmpfs", "/dev", "mode=0755"),
        ("tmpfs", "/run", "mode=0755"),
    ] {
        let mounted = fs::create_dir_all(target).and_then(|()| {
            mount(Some(kind), target, Some(kind), MsFlags::MS_NOSUID, Some(options)).map_err(io::Error::from)
        });
        mounted.map_err(|error| BootError::Mount(target, error))?;
    }
    load_modules()
}

fn load_modules() -> Result<(), BootError> {
    let directory = Path::new("/modules");
    let order = fs::read_to_string(directory.join("order")).map_err(BootError::Modules)?;
    for name in order.lines() {
        let loaded = File::open(directory.join(name)).and_then(|file| {
            match finit_module(&file, c"", ModuleInitFlags::empty()) {
                // Built into the kernel, or loaded twice.
                Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
                Err(error) => Err(error.into()),
            }
        });
        loaded.map_err(|error| BootError::Module(name.to_owned(), error))?;
    }
    // Megabytes of memory, which nobody needs again.
    let _ = fs::remove_dir_all(directory);
    Ok(())
}

/// Serves the host over the virtio-serial port, one conversation after the other. Returns when there is no such port:
/// the host then comes over vsock.
pub(crate) fn serve_port(machine: &std::sync::Arc<Machine>) {
    let Some(path) = find_port() else { return };
    loop {
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        match opened.and_then(Link::over_port) {
            Ok(link) => machine.converse(link),
            Err(error) => {
                complain(&format!("the port to the host can't be opened: {error}"));
                return;
            }
        }
    }
}

fn find_port() -> Option<PathBuf> {
    let deadline = Instant::now() + PORT_TIME_MAX;
    while Instant::now() < deadline {
        let ports = fs::read_dir("/sys/class/virtio-ports").ok().into_iter().flatten().flatten();
        for port in ports {
            let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
            if name.trim_end() == PORT_NAME {
                return Some(Path::new("/dev").join(port.file_name()));
            }
        }
        thread::sleep(PORT_INTERVAL);
    }
    None
}

/// Says something on the console, which is the log that the host keeps of a boot.
pub(crate) fn complain(text: &str) {
    // Nobody is left to tell if the console is gone too.
    let _ = writeln!(io::stderr(), "hypercore-guest: {text}");
}
