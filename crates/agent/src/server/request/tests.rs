//! Requests as callers send them: the numbers of the original protocol, every mistake at once, and any number at all.

use hypercore_model::machine::Monitor;
use proptest::prelude::*;

use super::*;

#[test]
fn the_original_fields_still_mean_what_they_did() {
    let request = VmSpawnRequest {
        cores: 2,
        memory: 512,
        image_ref: "web:1".into(),
        ports: [(8080, 80)].into(),
        env: vec!["A=b=c".into()],
        ..VmSpawnRequest::default()
    };
    let (id, spec) = workload(&request).unwrap();
    assert_eq!(id, None);
    assert_eq!(spec.cpu.unwrap().millis(), 2000);
    assert_eq!(spec.memory.unwrap().bytes(), 512 * MIB);
    assert_eq!(spec.ports, vec!["8080:80".parse().unwrap()]);
    assert_eq!(spec.env["A"], "b=c");
}

#[test]
fn a_spec_reads_back_from_its_own_request() {
    let mut spec = WorkloadSpec::of_image("web:1".parse().unwrap());
    spec.name = Some("web".parse().unwrap());
    spec.cpu = Some("0.5".parse().unwrap());
    spec.memory = Some("64m".parse().unwrap());
    spec.ports = vec!["80/udp".parse().unwrap()];
    spec.entrypoint = Some(vec!["/bin/sh".into()]);
    spec.labels.insert("a".into(), "b".into());
    spec.read_only_rootfs = true;
    spec.mounts = vec![
        "/srv:/srv:ro".parse().unwrap(),
        "cache:/cache".parse().unwrap(),
        Mount::tmpfs("/tmp:size=1m").unwrap(),
    ];
    spec.restart = "on-failure:3".parse().unwrap();
    (spec.ttl_ms, spec.stop_signal, spec.stop_grace_ms) = (Some(1), Some(3), Some(0));
    spec.ulimits = vec!["nofile=1:2".parse().unwrap()];
    (spec.user_namespace, spec.init) = (true, true);
    spec.cap_add = ["NET_ADMIN".parse().unwrap()].into();
    spec.cap_drop = ["ALL".parse().unwrap()].into();
    spec.tenant = "acme".parse().unwrap();
    (spec.isolation, spec.vmm) = (Isolation::MicroVm, Some(Monitor::Qemu));
    spec.io.disk_size_bytes = Some(1 << 30);
    (spec.io.disk_bytes_per_s, spec.io.disk_ops_per_s) = (Some(1 << 20), Some(100));
    spec.io.network_bytes_per_s = Some(1 << 21);
    spec.allow = ["host".parse().unwrap()].into();
    spec.route_port = NonZeroU16::new(80);
    assert_eq!(workload(&VmSpawnRequest::from(&spec)).unwrap().1, spec);
}

#[test]
fn every_mistake_of_a_request_is_told_at_once() {
    let request = VmSpawnRequest {
        image_ref: "web".into(),
        name: "No".into(),
        publish: vec!["0".into()],
        env: vec!["novalue".into()],
        cores: 1,
        cpu_millis: 1,
        isolation: 9,
        request_id: "x".into(),
        ..VmSpawnRequest::default()
    };
    let status = tonic::Status::from(workload(&request).unwrap_err());
    for part in ["`No`", "`0`", "novalue", "cpu_millis", "9 is not", "`x`"] {
        assert!(status.message().contains(part), "{part} in {}", status.message());
    }
}

#[test]
fn signals_are_bounded() {
    assert_eq!(signal(0, Signal::SIGKILL).unwrap(), 9);
    assert_eq!(optional_signal(64).unwrap(), Some(64));
    assert!(optional_signal(65).is_err() && signal(-1, Signal::SIGTERM).is_err());
}

/// Numbers at their edges more often than in between.
fn any_number() -> impl Strategy<Value = u64> {
    let edges =
        [0, 1, 2, 63, 64, 65, 999, 1000, u64::from(u16::MAX), u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
    prop_oneof![prop::sample::select(edges.to_vec()), any::<u64>()]
}

fn any_small_number() -> impl Strategy<Value = u32> {
    any_number().prop_map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

fn any_signed_number() -> impl Strategy<Value = i32> {
    prop_oneof![-2..70, Just(i32::MIN), Just(i32::MAX), any::<i32>()]
}

prop_compose! {
    fn numbers()(
        (cores, cpu_millis, memory) in (any_small_number(), any_small_number(), any_small_number()),
        (memory_bytes, pids_max, route_port) in (any_number(), any_small_number(), any_small_number()),
        (stop_signal, isolation) in (any_signed_number(), any_signed_number()),
        (ttl_ms, stop_grace_ms) in (any_number(), prop::option::of(any_number())),
        ports in prop::collection::hash_map(any_small_number(), any_small_number(), 0..3),
    ) -> VmSpawnRequest {
        VmSpawnRequest {
            image_ref: "web:1".into(), cores, cpu_millis, memory, memory_bytes, pids_max, route_port, stop_signal,
            isolation, ttl_ms, stop_grace_ms, ports, ..VmSpawnRequest::default()
        }
    }
}

proptest! {
    #[test]
    fn any_number_is_either_refused_or_taken_for_what_it_is(request in numbers()) {
        let Ok((_, spec)) = workload(&request) else { return Ok(()) };
        prop_assert!(spec.validate().is_ok());
        let wide = |number: u32| u64::from(number);
        let millis = spec.cpu.map_or(0, |cpu| u64::from(CpuMillis::millis(cpu)));
        prop_assert_eq!(millis, wide(request.cpu_millis) + wide(request.cores) * 1000);
        let bytes = spec.memory.map_or(0, |memory| memory.bytes());
        prop_assert_eq!(bytes, request.memory_bytes + wide(request.memory) * MIB);
        prop_assert_eq!(wide(request.route_port), spec.route_port.map_or(0, |port| u64::from(port.get())));
        prop_assert_eq!(request.stop_signal, spec.stop_signal.unwrap_or(0));
        prop_assert!(spec.stop_signal.is_none_or(|signal| (1..=64).contains(&signal)));
        prop_assert_eq!(request.ttl_ms, spec.ttl_ms.unwrap_or(0));
        prop_assert_eq!(request.stop_grace_ms, spec.stop_grace_ms);
        prop_assert_eq!(request.ports.len(), spec.ports.len());
    }

    #[test]
    fn a_token_never_lasts_longer_than_was_asked_for(ttl_ms in any_number(), now_ms in any_number()) {
        let now = Timestamp::from_unix_ms(now_ms);
        let request = v1::TokenCreateRequest { scopes: vec!["read".into()], ttl_ms, ..Default::default() };
        let grant = token(&request, now).unwrap();
        match grant.expires_at {
            None => prop_assert_eq!(ttl_ms, 0),
            Some(at) => prop_assert!(ttl_ms > 0 && at >= now && at.unix_ms() - now.unix_ms() <= ttl_ms),
        }
    }
}
