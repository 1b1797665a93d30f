//! What a spec refuses, and that it tells every mistake at once.

use super::*;

fn spec() -> WorkloadSpec {
    WorkloadSpec::of_image("web:1".parse().unwrap())
}

#[test]
fn an_image_alone_is_enough() {
    assert_eq!(spec().validate(), Ok(()));
}

#[test]
fn every_mistake_is_reported_at_once() {
    let mut spec = spec();
    spec.entrypoint = Some(vec![]);
    spec.command = vec!["a\0b".into()];
    spec.env.insert("A=B".into(), String::new());
    spec.labels.insert("\u{1b}[2J".into(), String::new());
    spec.ports = vec!["80:80".parse().unwrap(), "80:81".parse().unwrap(), "80:80/udp".parse().unwrap()];
    spec.pids_max = 0;
    spec.workdir = Some("tmp".into());
    let errors = spec.validate().unwrap_err();
    assert_eq!(
        errors,
        vec![
            SpecError::Entrypoint,
            SpecError::Nul("command argument 0".into()),
            SpecError::EnvKey("A=B".into()),
            SpecError::LabelKey("\\u{1b}[2J".into()),
            SpecError::PortTwice(80),
            SpecError::Pids(0),
            SpecError::Workdir("tmp".into()),
        ]
    );
}

#[test]
fn lists_and_texts_are_bounded() {
    let mut spec = spec();
    spec.command = vec![String::new(); ARGV_COUNT_MAX + 1];
    spec.env.insert("K".into(), "v".repeat(ENV_LEN_MAX));
    let errors = spec.validate().unwrap_err();
    assert!(matches!(errors[0], SpecError::TooMany { what: "command", .. }));
    assert!(matches!(&errors[1], SpecError::TooLong { what, .. } if what == "the environment variable K"));
}

#[test]
fn mounts_limits_and_ends_are_checked_too() {
    let mut spec = spec();
    spec.mounts = vec!["/a:/data".parse().unwrap(), "b:/data/".parse().unwrap()];
    spec.ulimits = vec!["nofile=1".parse().unwrap(), "nofile=2".parse().unwrap()];
    spec.ttl_ms = Some(0);
    spec.stop_grace_ms = Some(u64::MAX);
    spec.stop_signal = Some(65);
    (spec.restart, spec.remove_on_exit) = (RestartPolicy::Always, true);
    assert_eq!(
        spec.validate().unwrap_err(),
        vec![
            SpecError::MountTwice("/data/".into()),
            SpecError::UlimitTwice("nofile"),
            SpecError::Ttl(0),
            SpecError::StopGrace(u64::MAX),
            SpecError::StopSignal(65),
            SpecError::RestartRemoved,
        ]
    );
}
