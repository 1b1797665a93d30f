//! From the flags of `run` to a spec that is valid as a whole. All mistakes that the flags' own types can't see are
//! told together.

use std::collections::BTreeMap;

use hypercore_api::ErrorKind;
use hypercore_model::{IoLimits, WorkloadSpec};

use super::{RunArgs, environment};
use crate::{failure::Failure, signal::SignalNumber};

/// Checks the flags together.
pub(super) fn read(args: RunArgs) -> Result<WorkloadSpec, Failure> {
    let mut mistakes = Vec::new();
    let env = environment::read(&args.env_file, &args.env, |key| std::env::var(key).ok(), &mut mistakes);
    let io = io_limits(&args);
    let mut spec = WorkloadSpec::of_image(args.image);
    spec.io = io;
    spec.name = args.name;
    spec.isolation = args.isolation;
    spec.vmm = args.vmm;
    spec.entrypoint = args.entrypoint.map(|program| vec![program]);
    spec.command = args.command;
    spec.env = env;
    spec.user = args.user;
    spec.workdir = args.workdir;
    spec.hostname = args.hostname;
    spec.ports = args.publish;
    spec.cpu = args.cpu;
    spec.memory = args.memory;
    spec.tty = args.tty;
    spec.stdin_open = args.interactive;
    spec.remove_on_exit = args.rm;
    spec.labels = labels(&args.label);
    spec.read_only_rootfs = args.read_only;
    spec.mounts = [args.volume, args.tmpfs].concat();
    spec.restart = args.restart;
    spec.ttl_ms = args.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    spec.stop_signal = args.stop_signal.map(SignalNumber::number);
    spec.stop_grace_ms = args.stop_timeout.map(|seconds| u64::from(seconds) * 1000);
    spec.ulimits = args.ulimit;
    spec.user_namespace = args.user_namespace;
    spec.init = args.init;
    spec.cap_add = args.cap_add.into_iter().collect();
    spec.cap_drop = args.cap_drop.into_iter().collect();
    spec.tenant = args.tenant;
    spec.allow = args.allow.into_iter().collect();
    spec.route_port = args.route_port;
    if let Some(pids) = args.pids {
        spec.pids_max = pids;
    }
    if let Err(errors) = spec.validate() {
        mistakes.extend(errors.iter().map(ToString::to_string));
    }
    if mistakes.is_empty() {
        return Ok(spec);
    }
    let hint = "`hypercore run --help` explains every flag";
    Err(Failure::new(ErrorKind::Usage, "invalid_request", mistakes.join("; ")).with_hint(hint))
}

fn io_limits(args: &RunArgs) -> IoLimits {
    IoLimits {
        disk_size_bytes: args.disk_size,
        disk_bytes_per_s: args.disk_rate,
        disk_ops_per_s: args.disk_iops,
        network_bytes_per_s: args.net_rate,
    }
}

/// `KEY=VALUE`, or `KEY` for an empty value; a later one replaces an earlier one.
fn labels(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.clone(), String::new()),
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches as _, Parser};
    use hypercore_model::{Capability, Mount};

    use super::*;
    use crate::cli::{Cli, Command};

    fn spec(words: &[&str]) -> Result<WorkloadSpec, Failure> {
        let matches = crate::cli::definition().get_matches_from([&["hypercore", "run"], words].concat());
        let cli = Cli::from_arg_matches(&matches).unwrap();
        let Command::Run(args) = cli.command else { panic!("{cli:?}") };
        read(*args)
    }

    #[test]
    fn flags_end_where_the_command_begins() {
        for words in
            [["-d", "web", "--", "ls", "-l", "-d"].as_slice(), ["-d", "web", "ls", "-l", "-d"].as_slice()]
        {
            let spec = spec(words).unwrap();
            assert_eq!(spec.command, ["ls", "-l", "-d"]);
        }
    }

    #[test]
    fn every_flag_reaches_its_field() {
        let words = "-it --name web -p 80 -p 53:53/udp --cpu 0.5 --mem 64m --pids 7 -e A=b=c --label x -l y=z \
            --isolation microvm --vmm qemu --entrypoint /bin/sh -u 1:2 -w /tmp --hostname h -v cache:/cache:ro --tmpfs /tmp \
            --read-only --restart on-failure:3 --ttl 1h --stop-signal QUIT --stop-timeout 3 --init --tenant acme \
            --allow host --route-port 80 --ulimit nofile=9 --cap-add net_admin --cap-drop ALL --userns \
            --disk-size 1g --disk-rate 2m --disk-iops 300 --net-rate 4m/s img:1";
        let spec = spec(&words.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert!(spec.tty && spec.stdin_open && spec.read_only_rootfs && spec.init && spec.user_namespace);
        assert_eq!(spec.name.unwrap().as_str(), "web");
        assert_eq!(spec.ports.len(), 2);
        assert_eq!(
            (spec.cpu.unwrap().millis(), spec.memory.unwrap().bytes(), spec.pids_max),
            (500, 64 << 20, 7)
        );
        assert_eq!(spec.env["A"], "b=c");
        assert_eq!((spec.labels["x"].as_str(), spec.labels["y"].as_str()), ("", "z"));
        assert_eq!(spec.isolation, hypercore_model::Isolation::MicroVm);
        assert_eq!(spec.vmm, Some(hypercore_model::machine::Monitor::Qemu));
        assert_eq!(spec.entrypoint.unwrap(), ["/bin/sh"]);
        assert_eq!((spec.user.unwrap(), spec.workdir.unwrap()), ("1:2".into(), "/tmp".into()));
        assert_eq!(spec.hostname.unwrap().as_str(), "h");
        assert_eq!(spec.mounts, ["cache:/cache:ro".parse().unwrap(), Mount::tmpfs("/tmp").unwrap()]);
        assert_eq!(spec.restart.to_string(), "on-failure:3");
        assert_eq!(
            (spec.ttl_ms, spec.stop_signal, spec.stop_grace_ms),
            (Some(3_600_000), Some(3), Some(3000))
        );
        assert_eq!((spec.tenant.as_str(), spec.allow.len()), ("acme", 1));
        assert_eq!((spec.route_port.unwrap().get(), spec.ulimits[0].soft()), (80, 9));
        assert_eq!(spec.cap_add.first().unwrap().as_str(), "NET_ADMIN");
        assert_eq!(spec.cap_drop, [Capability::ALL].into());
        let io = IoLimits {
            disk_size_bytes: Some(1 << 30),
            disk_bytes_per_s: Some(2 << 20),
            disk_ops_per_s: Some(300),
            network_bytes_per_s: Some(4 << 20),
        };
        assert_eq!(spec.io, io);
    }

    #[test]
    fn mistakes_across_flags_are_told_together() {
        let failure = spec(&["-p", "80:80", "-p", "80:81", "-w", "tmp", "-e", "=x", "web"]).unwrap_err();
        assert_eq!(failure.exit.code(), 2);
        for part in ["host port 80", "`tmp`", "`=x`"] {
            assert!(failure.error.message.contains(part), "{part} in {}", failure.error.message);
        }
    }

    #[test]
    fn a_workload_may_be_removed_at_its_end() {
        assert!(spec(&["--rm", "web"]).unwrap().remove_on_exit);
        assert!(spec(&["--rm", "--restart", "always", "web"]).is_err());
    }

    #[test]
    fn a_container_has_no_vmm() {
        let failure = spec(&["--vmm", "qemu", "web"]).unwrap_err();
        assert_eq!(failure.exit.code(), 2);
        assert!(failure.error.message.contains("--isolation microvm"), "{}", failure.error.message);
    }

    #[test]
    fn dash_v_after_run_is_a_volume() {
        assert!(Cli::try_parse_from(["hypercore", "run", "-v", "web"]).is_err());
        assert!(Cli::try_parse_from(["hypercore", "-v", "run", "web"]).is_ok());
    }
}
