//! Between the model's types and the messages that carry them, both ways, so that client and agent can't disagree.
//! It refuses to fill in what a message left out: reading answers an option, and the caller says what absence means.

use hypercore_model::{
    CpuMillis, ExitStatus, Isolation, MemoryBytes, Mount, MountSource, WorkloadSpec, WorkloadStatus,
    mount::MountError,
};

use crate::v1::{self, exit_status::How, mount::Source};

impl From<&WorkloadSpec> for v1::VmSpawnRequest {
    /// The request that makes this spec.
    fn from(spec: &WorkloadSpec) -> Self {
        Self {
            image_ref: spec.image.to_string(),
            name: spec.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            hostname: spec.hostname.as_ref().map(ToString::to_string).unwrap_or_default(),
            entrypoint: spec.entrypoint.clone().unwrap_or_default(),
            command: spec.command.clone(),
            env: spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect(),
            user: spec.user.clone().unwrap_or_default(),
            workdir: spec.workdir.clone().unwrap_or_default(),
            publish: spec.ports.iter().map(ToString::to_string).collect(),
            cpu_millis: spec.cpu.map_or(0, CpuMillis::millis),
            memory_bytes: spec.memory.map_or(0, MemoryBytes::bytes),
            pids_max: spec.pids_max,
            tty: spec.tty,
            stdin_open: spec.stdin_open,
            remove_on_exit: spec.remove_on_exit,
            labels: spec.labels.clone().into_iter().collect(),
            isolation: v1::Isolation::from(spec.isolation).into(),
            read_only_rootfs: spec.read_only_rootfs,
            mounts: spec.mounts.iter().map(Into::into).collect(),
            restart: spec.restart.to_string(),
            ttl_ms: spec.ttl_ms.unwrap_or(0),
            stop_signal: spec.stop_signal.unwrap_or(0),
            stop_grace_ms: spec.stop_grace_ms,
            ulimits: spec.ulimits.iter().map(ToString::to_string).collect(),
            user_namespace: spec.user_namespace,
            init: spec.init,
            cap_add: spec.cap_add.iter().map(ToString::to_string).collect(),
            cap_drop: spec.cap_drop.iter().map(ToString::to_string).collect(),
            tenant: spec.tenant.to_string(),
            allow: spec.allow.iter().map(ToString::to_string).collect(),
            route_port: spec.route_port.map_or(0, |port| port.get().into()),
            vmm: spec.vmm.map(|vmm| vmm.as_str().to_owned()).unwrap_or_default(),
            disk_size_bytes: spec.io.disk_size_bytes.unwrap_or(0),
            disk_bytes_per_s: spec.io.disk_bytes_per_s.unwrap_or(0),
            disk_ops_per_s: spec.io.disk_ops_per_s.unwrap_or(0),
            network_bytes_per_s: spec.io.network_bytes_per_s.unwrap_or(0),
            ..Self::default()
        }
    }
}

impl From<&Mount> for v1::Mount {
    fn from(mount: &Mount) -> Self {
        let source = match &mount.source {
            // A spec's paths are checked to be text.
            MountSource::Bind(path) => Source::Bind(path.to_string_lossy().into_owned()),
            MountSource::Volume(name) => Source::Volume(name.to_string()),
            MountSource::Tmpfs { size_bytes } => {
                Source::Tmpfs(v1::TmpfsSource { size_bytes: size_bytes.unwrap_or(0) })
            }
        };
        Self { source: Some(source), target: mount.target.clone(), read_only: mount.read_only }
    }
}

impl v1::Mount {
    /// The mount, as far as its message is one.
    ///
    /// # Errors
    /// [`MountError`], when the message names no source, or a path or name that can't be one.
    pub fn to_model(&self) -> Result<Mount, MountError> {
        let source = match &self.source {
            Some(Source::Bind(path)) => MountSource::Bind(path.into()),
            Some(Source::Volume(name)) => MountSource::Volume(name.parse()?),
            Some(Source::Tmpfs(tmpfs)) => {
                MountSource::Tmpfs { size_bytes: (tmpfs.size_bytes > 0).then_some(tmpfs.size_bytes) }
            }
            None => return Err(MountError::Form(self.target.escape_default().to_string())),
        };
        let mount = Mount { source, target: self.target.clone(), read_only: self.read_only };
        mount.check().map(|()| mount)
    }
}

impl From<Isolation> for v1::Isolation {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::Container => Self::Container,
            Isolation::MicroVm => Self::Microvm,
        }
    }
}

impl From<v1::Isolation> for Isolation {
    fn from(isolation: v1::Isolation) -> Self {
        match isolation {
            v1::Isolation::Container => Self::Container,
            v1::Isolation::Microvm => Self::MicroVm,
        }
    }
}

impl From<WorkloadStatus> for v1::WorkloadStatus {
    fn from(status: WorkloadStatus) -> Self {
        match status {
            WorkloadStatus::Pending => Self::Pending,
            WorkloadStatus::Pulling => Self::Pulling,
            WorkloadStatus::Starting => Self::Starting,
            WorkloadStatus::Running => Self::Running,
            WorkloadStatus::Paused => Self::Paused,
            WorkloadStatus::Stopping => Self::Stopping,
            WorkloadStatus::Stopped => Self::Stopped,
            WorkloadStatus::Failed => Self::Failed,
            WorkloadStatus::Lost => Self::Lost,
        }
    }
}

impl From<v1::WorkloadStatus> for WorkloadStatus {
    fn from(status: v1::WorkloadStatus) -> Self {
        match status {
            v1::WorkloadStatus::Pending => Self::Pending,
            v1::WorkloadStatus::Pulling => Self::Pulling,
            v1::WorkloadStatus::Starting => Self::Starting,
            v1::WorkloadStatus::Running => Self::Running,
            v1::WorkloadStatus::Paused => Self::Paused,
            v1::WorkloadStatus::Stopping => Self::Stopping,
            v1::WorkloadStatus::Stopped => Self::Stopped,
            v1::WorkloadStatus::Failed => Self::Failed,
            v1::WorkloadStatus::Lost => Self::Lost,
        }
    }
}

impl From<ExitStatus> for v1::ExitStatus {
    /// A kill for lack of memory is told as SIGKILL with `out_of_memory` set.
    fn from(exit: ExitStatus) -> Self {
        let how = match exit {
            ExitStatus::Code(code) => How::Code(code.into()),
            ExitStatus::Signal(signal) => How::Signal(signal.into()),
            ExitStatus::OutOfMemory => How::Signal(9),
        };
        Self { how: Some(how), out_of_memory: exit == ExitStatus::OutOfMemory }
    }
}

impl v1::ExitStatus {
    /// The exit status, unless the message says nothing or a number that no process can end with.
    #[must_use]
    pub fn to_model(&self) -> Option<ExitStatus> {
        match self.how? {
            _ if self.out_of_memory => Some(ExitStatus::OutOfMemory),
            How::Code(code) => code.try_into().ok().map(ExitStatus::Code),
            How::Signal(signal) => signal.try_into().ok().map(ExitStatus::Signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_comes_back_as_itself() {
        for status in WorkloadStatus::ALL {
            assert_eq!(WorkloadStatus::from(v1::WorkloadStatus::from(status)), status);
        }
    }

    #[test]
    fn exit_statuses_come_back_as_themselves_and_nonsense_as_nothing() {
        for exit in [ExitStatus::Code(3), ExitStatus::Signal(15), ExitStatus::OutOfMemory] {
            assert_eq!(v1::ExitStatus::from(exit).to_model(), Some(exit));
        }
        assert_eq!(v1::ExitStatus::default().to_model(), None);
        assert_eq!(v1::ExitStatus { how: Some(How::Code(256)), out_of_memory: false }.to_model(), None);
    }
}
