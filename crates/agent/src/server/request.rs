//! What callers send, read into the model's types. All mistakes of a request are told at once.
//! It refuses to guess: a field that can't be read is an error, never a default.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Display, num::NonZeroU16, str::FromStr};

use hypercore_api::v1::{self, VmSpawnRequest};
use hypercore_cluster::state::TokenGrant;
use hypercore_model::{
    CpuMillis, ImageReference, IoLimits, Isolation, MemoryBytes, Mount, PortMapping, Timestamp, WorkloadId,
    WorkloadName, WorkloadSpec,
};
use nix::sys::signal::Signal;

use super::{problem::Problem, restore::Wanted};

/// One MiB, the unit of the original protocol's `memory`.
const MIB: u64 = 1 << 20;

/// Reads a spawn request. The id is the caller's, if one was chosen.
pub(super) fn workload(request: &VmSpawnRequest) -> Result<(Option<WorkloadId>, WorkloadSpec), Problem> {
    let mut reader = Reader::default();
    let image = match request.image_ref.parse::<ImageReference>() {
        Ok(image) => image,
        Err(error) => return Err(Problem::invalid("invalid_image_reference", error.to_string())),
    };
    let mut spec = WorkloadSpec::of_image(image);
    spec.name = reader.optional::<WorkloadName>(&request.name);
    spec.hostname = reader.optional::<WorkloadName>(&request.hostname);
    spec.isolation = reader.isolation(request.isolation);
    spec.entrypoint = (!request.entrypoint.is_empty()).then(|| request.entrypoint.clone());
    spec.command.clone_from(&request.command);
    spec.env = reader.env(&request.env);
    spec.user = (!request.user.is_empty()).then(|| request.user.clone());
    spec.workdir = (!request.workdir.is_empty()).then(|| request.workdir.clone());
    spec.ports = reader.ports(request);
    spec.cpu = reader.cpu(request);
    spec.memory = reader.memory(request);
    if request.pids_max > 0 {
        spec.pids_max = request.pids_max;
    }
    spec.tty = request.tty;
    spec.stdin_open = request.stdin_open;
    spec.remove_on_exit = request.remove_on_exit;
    spec.labels = request.labels.clone().into_iter().collect();
    spec.read_only_rootfs = request.read_only_rootfs;
    spec.mounts = reader.mounts(&request.mounts);
    spec.restart = reader.optional(&request.restart).unwrap_or_default();
    spec.ttl_ms = (request.ttl_ms > 0).then_some(request.ttl_ms);
    spec.stop_signal = (request.stop_signal != 0).then_some(request.stop_signal);
    spec.stop_grace_ms = request.stop_grace_ms;
    spec.ulimits = reader.all(&request.ulimits);
    spec.user_namespace = request.user_namespace;
    spec.init = request.init;
    spec.cap_add = reader.all(&request.cap_add);
    spec.cap_drop = reader.all(&request.cap_drop);
    spec.tenant = reader.optional(&request.tenant).unwrap_or_default();
    spec.allow = reader.all(&request.allow);
    spec.route_port = reader.route_port(request.route_port);
    spec.vmm = reader.optional(&request.vmm);
    spec.io = io_limits(request);
    let id = reader.optional::<WorkloadId>(&request.request_id);
    if let Err(errors) = spec.validate() {
        reader.mistakes.extend(errors.iter().map(ToString::to_string));
    }
    reader.finish((id, spec))
}

/// A limit of 0 is none.
fn io_limits(request: &VmSpawnRequest) -> IoLimits {
    let given = |number: u64| (number > 0).then_some(number);
    IoLimits {
        disk_size_bytes: given(request.disk_size_bytes),
        disk_bytes_per_s: given(request.disk_bytes_per_s),
        disk_ops_per_s: given(request.disk_ops_per_s),
        network_bytes_per_s: given(request.network_bytes_per_s),
    }
}

/// Reads what is wanted of a workload that goes on from a snapshot.
pub(super) fn restore(request: &v1::RestoreRequest) -> Result<Wanted, Problem> {
    let mut reader = Reader::default();
    let publish: Vec<_> = reader.all(&request.publish);
    if request.no_ports && !request.publish.is_empty() {
        reader.mistakes.push("`no_ports` and `publish` contradict each other".into());
    }
    let wanted = Wanted {
        id: reader.optional(&request.request_id),
        name: reader.optional(&request.name),
        ports: (request.no_ports || !publish.is_empty()).then_some(publish),
    };
    reader.finish(wanted)
}

/// Reads an id that the caller may have chosen.
pub(super) fn id(text: &str) -> Result<Option<WorkloadId>, Problem> {
    let mut reader = Reader::default();
    let id = reader.optional(text);
    reader.finish(id)
}

/// Reads what a new token shall allow, from `now` on.
pub(super) fn token(request: &v1::TokenCreateRequest, now: Timestamp) -> Result<TokenGrant, Problem> {
    let mut reader = Reader::default();
    let ttl = (request.ttl_ms > 0).then_some(request.ttl_ms);
    let grant = TokenGrant {
        name: reader.optional(&request.name),
        scopes: reader.all(&request.scopes),
        tenant: reader.optional(&request.tenant),
        expires_at: ttl.map(|ttl_ms| Timestamp::from_unix_ms(now.unix_ms().saturating_add(ttl_ms))),
    };
    reader.finish(grant)
}

/// Reads `KEY=VALUE` texts.
pub(super) fn environment(texts: &[String]) -> Result<BTreeMap<String, String>, Problem> {
    let mut reader = Reader::default();
    let env = reader.env(texts);
    reader.finish(env)
}

/// Reads a signal's number; 0 is `default`.
pub(super) fn signal(number: i32, default: Signal) -> Result<i32, Problem> {
    if number == 0 {
        return Ok(default as i32);
    }
    optional_signal(number).map(|signal| signal.unwrap_or(default as i32))
}

/// Reads a signal's number; 0 is none.
pub(super) fn optional_signal(number: i32) -> Result<Option<i32>, Problem> {
    // Real-time signals end at 64 on Linux; nix names only the first 31.
    match number {
        0 => Ok(None),
        1..=64 => Ok(Some(number)),
        _ => Err(Problem::invalid("invalid_signal", format!("{number} is not a signal (1 to 64)"))),
    }
}

/// Reads fields and collects what is wrong with them.
#[derive(Default)]
struct Reader {
    mistakes: Vec<String>,
}

impl Reader {
    fn finish<T>(self, value: T) -> Result<T, Problem> {
        if self.mistakes.is_empty() {
            return Ok(value);
        }
        Err(Problem::invalid("invalid_request", self.mistakes.join("; ")))
    }

    fn note<T, E: Display>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.mistakes.push(error.to_string())).ok()
    }

    fn optional<T: FromStr<Err: Display>>(&mut self, text: &str) -> Option<T> {
        if text.is_empty() { None } else { self.note(text.parse()) }
    }

    /// Reads every text of a list.
    fn all<T: FromStr<Err: Display>, C: FromIterator<T>>(&mut self, texts: &[String]) -> C {
        texts.iter().filter_map(|text| self.note(text.parse())).collect()
    }

    fn mounts(&mut self, mounts: &[v1::Mount]) -> Vec<Mount> {
        mounts.iter().filter_map(|mount| self.note(mount.to_model())).collect()
    }

    fn route_port(&mut self, number: u32) -> Option<NonZeroU16> {
        if number == 0 {
            return None;
        }
        let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
        if port.is_none() {
            self.mistakes.push(format!("{number} is not a port"));
        }
        port
    }

    fn isolation(&mut self, number: i32) -> Isolation {
        match v1::Isolation::try_from(number) {
            Ok(isolation) => isolation.into(),
            Err(_) => {
                self.mistakes.push(format!("{number} is not an isolation class"));
                Isolation::Container
            }
        }
    }

    fn env(&mut self, texts: &[String]) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        for text in texts {
            match text.split_once('=') {
                Some((key, value)) => drop(env.insert(key.to_owned(), value.to_owned())),
                None => self.mistakes.push(format!("`{text}` is not KEY=VALUE")),
            }
        }
        env
    }

    fn ports(&mut self, request: &VmSpawnRequest) -> Vec<PortMapping> {
        let mut pairs: Vec<_> =
            request.ports.iter().map(|(host, container)| format!("{host}:{container}")).collect();
        pairs.sort();
        let texts = request.publish.iter().chain(&pairs);
        texts.filter_map(|text| self.note(text.parse())).collect()
    }

    fn cpu(&mut self, request: &VmSpawnRequest) -> Option<CpuMillis> {
        let millis = match (request.cpu_millis, request.cores) {
            (0, 0) => return None,
            (0, cores) => cores.saturating_mul(1000),
            (millis, 0) => millis,
            _ => {
                self.mistakes.push("`cores` and `cpu_millis` say the same thing; give one".into());
                return None;
            }
        };
        self.note(CpuMillis::new(millis))
    }

    fn memory(&mut self, request: &VmSpawnRequest) -> Option<MemoryBytes> {
        let bytes = match (request.memory_bytes, request.memory) {
            (0, 0) => return None,
            (0, mib) => u64::from(mib) * MIB,
            (bytes, 0) => bytes,
            _ => {
                self.mistakes.push("`memory` and `memory_bytes` say the same thing; give one".into());
                return None;
            }
        };
        self.note(MemoryBytes::new(bytes))
    }
}
