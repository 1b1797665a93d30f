//! From a machine that was started to a guest that answers and is prepared. What doesn't answer in time is shown with
//! the last lines of its console. It refuses to wait without end.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::net::UnixStream,
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hypercore_model::machine::{MachineMount, MachineNetwork, MachineSpec};
use hypercore_wire::{
    Flags, Message, StreamId,
    message::{Fault, GuestMount, Prepare},
};

use super::{
    peer::{self, PeerError, Receiver, Sender},
    vmm::{Place, Vmm, VmmError},
};

/// How often is looked whether the machine listens: it has no way to say so.
const CONNECT_INTERVAL: Duration = Duration::from_millis(2);
/// Fresh randomness for the guest, in bytes.
const ENTROPY_LEN: usize = 32;
/// How much of the console is looked at for what to show, in bytes.
const CONSOLE_LEN_MAX: u64 = 8192;
/// How many lines of it are shown.
const CONSOLE_LINES_MAX: usize = 6;
/// How a kernel says that it can't go on. What follows is only where it was.
const PANIC: &str = "Kernel panic";
/// How long a monitor may take to end once it has closed its connections.
const END_TIME_MAX: Duration = Duration::from_secs(1);
/// The stream of the preparation.
const PREPARE_STREAM: StreamId = StreamId(u32::MAX);

/// Why there is no guest.
#[derive(Debug, thiserror::Error)]
pub(super) enum BootError {
    /// The monitor's program ended by itself.
    #[error("the machine ended before its guest answered ({0})")]
    Ended(std::process::ExitStatus),
    /// Its guest said nothing.
    #[error("the guest did not answer within {} seconds", .0.as_secs_f32())]
    Silent(Duration),
    /// Its engine.
    #[error(transparent)]
    Vmm(#[from] VmmError),
    /// Something with the connection.
    #[error("the guest can't be spoken with")]
    Peer(#[from] PeerError),
    /// The host's own side.
    #[error("the guest can't be reached")]
    Host(#[from] io::Error),
    /// The guest could not become what it shall be.
    #[error("the guest can't be prepared: {0}")]
    Prepare(Fault),
}

/// Has the machine begin, waits for its guest and prepares it.
pub(super) fn reach(
    spec: &MachineSpec,
    vmm: &dyn Vmm,
    place: &Place,
    machine: &mut Child,
) -> Result<(Sender, Receiver), BootError> {
    let (sender, mut receiver) = hear(spec, vmm, place, machine)?;
    let mut answer = || {
        sender.send(PREPARE_STREAM, Flags::NONE, preparation(spec)?)?;
        let frame = receiver.next_frame()?;
        match Message::decode(&frame.payload) {
            Ok(Message::Done(_)) => Ok(()),
            Ok(Message::Error(fault)) => Err(BootError::Prepare(fault)),
            _ => Err(BootError::Peer(PeerError::NoGreeting)),
        }
    };
    answer().map_err(|error| explain(error, machine, patience(spec)))?;
    receiver.stream().set_read_timeout(None)?;
    Ok((sender, receiver))
}

/// Has the machine begin, and waits for its guest's first word. What comes next may take as long as was left of that.
pub(super) fn hear(
    spec: &MachineSpec,
    vmm: &dyn Vmm,
    place: &Place,
    machine: &mut Child,
) -> Result<(Sender, Receiver), BootError> {
    let deadline = Instant::now() + patience(spec);
    vmm.begin(spec, place, machine, deadline)?;
    let stream = connect(vmm, place, machine, deadline)?.ok_or(BootError::Silent(patience(spec)))?;
    let (sender, mut receiver) = peer::split(stream)?;
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    receiver.stream().set_read_timeout(Some(left))?;
    let greeted = peer::greet(&sender, &mut receiver);
    greeted.map_err(|error| explain(error.into(), machine, patience(spec)))?;
    Ok((sender, receiver))
}

const fn patience(spec: &MachineSpec) -> Duration {
    Duration::from_millis(spec.boot_time_max_ms)
}

/// A machine that ended closes its connections, a moment before it has ended; a silent one lets a read run out.
fn explain(error: BootError, machine: &mut Child, time_max: Duration) -> BootError {
    match error {
        BootError::Peer(PeerError::Broken(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            BootError::Silent(time_max)
        }
        error @ BootError::Peer(PeerError::Closed | PeerError::Broken(_)) => {
            wait_for_end(machine).map_or(error, BootError::Ended)
        }
        error => error,
    }
}

pub(super) fn wait_for_end(machine: &mut Child) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + END_TIME_MAX;
    loop {
        match machine.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(CONNECT_INTERVAL),
            _ => return None,
        }
    }
}

/// Nothing, when nobody listened until the deadline.
fn connect(
    vmm: &dyn Vmm,
    place: &Place,
    machine: &mut Child,
    deadline: Instant,
) -> Result<Option<UnixStream>, BootError> {
    loop {
        if let Ok(stream) = vmm.dial(place) {
            return Ok(Some(stream));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        if let Some(status) = machine.try_wait()? {
            return Err(BootError::Ended(status));
        }
        thread::sleep(CONNECT_INTERVAL);
    }
}

fn preparation(spec: &MachineSpec) -> io::Result<Prepare> {
    let mut entropy = vec![0; ENTROPY_LEN];
    File::open("/dev/urandom")?.read_exact(&mut entropy)?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let network = spec.network.as_ref();
    let text = |field: fn(&MachineNetwork) -> &String| network.map(field).cloned().unwrap_or_default();
    Ok(Prepare {
        hostname: spec.hostname.clone(),
        addresses: network.map_or_else(Vec::new, |network| {
            network.addresses.iter().map(|(address, len)| format!("{address}/{len}")).collect()
        }),
        gateways: network
            .map_or_else(Vec::new, |network| network.gateways.iter().map(ToString::to_string).collect()),
        resolv_conf: text(|network| &network.resolv_conf),
        hosts: text(|network| &network.hosts),
        now_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        entropy,
        mounts: spec.mounts.iter().map(mount).collect(),
        read_only: spec.read_only,
        // A machine that goes on from a snapshot has the address of the one that was saved.
        hardware_address: spec
            .resume
            .as_ref()
            .and_then(|_| network.map(|network| network.hardware_address.clone())),
        is_point_to_point: true,
        pids_max: spec.pids_max,
    })
}

fn mount(mount: &MachineMount) -> GuestMount {
    GuestMount {
        source: mount.source.clone(),
        kind: mount.kind.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        size_bytes: mount.size_bytes,
    }
}

/// The last lines of the guest's console, without what a terminal would act on; of a panic, its reason.
pub(super) fn console_tail(path: &Path) -> String {
    let read = || {
        use std::io::{Seek, SeekFrom};
        let mut file = File::open(path)?;
        let len = fs::metadata(path)?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(CONSOLE_LEN_MAX)))?;
        let mut bytes = Vec::new();
        file.take(CONSOLE_LEN_MAX).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    shorten(&String::from_utf8_lossy(&read().unwrap_or_default()))
}

fn shorten(text: &str) -> String {
    let lines = text.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>());
    let mut lines: Vec<String> = lines.filter(|line| !line.trim().is_empty()).collect();
    if let Some(at) = lines.iter().position(|line| line.contains(PANIC)) {
        lines.truncate(at + 1);
    }
    lines[lines.len().saturating_sub(CONSOLE_LINES_MAX)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_panic_is_shown_and_not_its_trace() {
        let trace = "call trace\n".repeat(20);
        let shown =
            shorten(&format!("begins\n\n\x1b[31mwhy\r\n[1.0] Kernel panic - not syncing: x\n{trace}"));
        assert_eq!(shown, "begins | [31mwhy | [1.0] Kernel panic - not syncing: x");
        assert_eq!(shorten("1\n2\n3\n4\n5\n6\n7\n"), "2 | 3 | 4 | 5 | 6 | 7");
    }
}
