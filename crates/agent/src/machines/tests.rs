//! What is found out without booting anything.

use super::*;

fn places<'a>(directory: &'a Path) -> SurveyPlaces<'a> {
    SurveyPlaces {
        data_directory: directory,
        sockets: directory,
        files: directory,
        cache: None,
        tries_again: false,
    }
}

#[tokio::test]
async fn without_a_kernel_nothing_is_tried_and_the_reason_is_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    let settings =
        MachineSettings { kernel: Some(scratch.path().join("none")), ..MachineSettings::default() };
    let found = survey(&settings, places(scratch.path())).await;
    assert_eq!(found.engines.len(), Monitor::ALL.len());
    assert!(found.engines.iter().all(|engine| engine.kvm.is_err()), "{found:?}");
    assert!(found.kernel.is_err_and(|error| matches!(*error, KernelError::Read { .. })));
    let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().collect();
    assert!(left.is_empty(), "a survey without a kernel made {left:?}");
}

#[tokio::test]
async fn who_asks_before_it_is_known_waits_and_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let settings =
        MachineSettings { kernel: Some(scratch.path().join("none")), ..MachineSettings::default() };
    let machines = Machines::new(&settings, scratch.path(), scratch.path());
    assert!(!machines.is_known());
    assert!(machines.described().1.contains("not found out yet"));
    let (asked, ()) = tokio::join!(machines.choose(None), machines.run());
    assert!(matches!(asked, Err(Unavailable::Kernel(_) | Unavailable::Engine(_))), "{asked:?}");
    assert!(machines.is_known());
    let (engine, why) = machines.described();
    assert!(engine.is_empty() && !why.is_empty(), "{engine}: {why}");
}
