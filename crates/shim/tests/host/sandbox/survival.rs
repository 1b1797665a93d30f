//! What survives the agent, and what is known when the shim didn't survive.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use hypercore_fixtures::{skip_without_root, wait_until};
use hypercore_model::ExitStatus;
use hypercore_runtime::{
    log::LogStream,
    sandbox::{Adoption, Sandbox, Sandboxes},
};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::{
    Held, deadline,
    held::{WAIT_MAX, is_alive, listen, sandboxes, shell},
};

/// Tells the test program, run once more, that it is the agent that will be killed.
const AGENT: &str = "HYPERCORE_TEST_AGENT";

/// Launches the workload from another process, which has the shim's launch in its process group, and kills that
/// whole group with SIGKILL.
fn launch_from_an_agent_that_is_killed(held: &Held) {
    held.machine.prepare().unwrap();
    let request = &held.request;
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::survival::agent_that_will_be_killed", "--nocapture"])
        .env(
            AGENT,
            format!(
                "{}\n{}\n{}",
                held.runtime_directory().display(),
                request.id,
                request.directory.display()
            ),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    wait_until(WAIT_MAX, || held.directory().join("launched").exists().then_some(())).expect("no launch");
    killpg(Pid::from_raw(i32::try_from(agent.id()).unwrap()), Signal::SIGKILL).unwrap();
    agent.wait().unwrap();
}

/// Not a test but the other process of one; nothing to do when it is run as a test.
#[tokio::test]
async fn agent_that_will_be_killed() {
    let Ok(orders) = std::env::var(AGENT) else { return };
    let orders: Vec<&str> = orders.lines().collect();
    let request = hypercore_runtime::sandbox::LaunchRequest {
        id: orders[1].parse().unwrap(),
        attempt: hypercore_model::Attempt::FIRST,
        directory: orders[2].into(),
        engine: hypercore_runtime::sandbox::Engine::Container,
        tty: false,
        stdin_open: false,
        oom_events: None,
        start_time_max: std::time::Duration::from_secs(60),
        log: hypercore_runtime::sandbox::LogLimits::default(),
    };
    let sandbox = sandboxes(Path::new(orders[0])).launch(request).await.unwrap();
    std::fs::write(Path::new(orders[2]).join("launched"), "").unwrap();
    // Waits for its death, connected to the shim.
    let _ = sandbox.exited().await;
    std::future::pending::<()>().await;
}

async fn adopt(held: &Held) -> Adoption {
    deadline(sandboxes(held.runtime_directory()).adopt(held.id(), &held.directory())).await.unwrap()
}

async fn adopt_running(held: &Held) -> Sandbox {
    match adopt(held).await {
        Adoption::Running(sandbox) => sandbox,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_workload_survives_its_agent_and_is_under_control_again() {
    if skip_without_root("a_workload_survives_its_agent_and_is_under_control_again") {
        return;
    }
    let held = Held::shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done");
    launch_from_an_agent_that_is_killed(&held);
    let sandbox = adopt_running(&held).await;
    assert!(is_alive(sandbox.pid()));
    held.wait_for_output("up").await;
    let mut session = sandbox.exec(shell("echo still here")).await.unwrap();
    assert_eq!(listen(&mut session).await.text(), "still here\n");
    sandbox.signal(15).await.unwrap();
    assert_eq!(deadline(sandbox.exited()).await.unwrap().exit, ExitStatus::Code(3));
    assert_eq!(held.logged(LogStream::Stdout).await, "up\nbye\n");
}

#[tokio::test]
async fn an_end_without_an_agent_is_known_to_the_next_one() {
    if skip_without_root("an_end_without_an_agent_is_known_to_the_next_one") {
        return;
    }
    let held = Held::shell("until [ -e /tmp/end ]; do sleep 0.01; done; echo last words; exit 8");
    launch_from_an_agent_that_is_killed(&held);
    std::fs::write(held.directory().join("rootfs/tmp/end"), "").unwrap();
    held.wait_for_shims_end();
    let adoption = adopt(&held).await;
    assert!(
        matches!(adoption, Adoption::Ended(record) if record.exit == ExitStatus::Code(8)),
        "{adoption:?}"
    );
    assert_eq!(held.logged(LogStream::Stdout).await, "last words\n");
}

#[tokio::test]
async fn a_shim_that_was_killed_is_gone_and_what_it_held_is_destroyed() {
    if skip_without_root("a_shim_that_was_killed_is_gone_and_what_it_held_is_destroyed") {
        return;
    }
    let held = Held::shell("exec sleep 1000");
    let sandbox = held.launch().await;
    let shim = held.shim_pid().unwrap();
    let (waited, ()) = tokio::join!(deadline(sandbox.exited()), async {
        kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    });
    waited.unwrap_err();
    assert!(matches!(adopt(&held).await, Adoption::Gone));
    assert_eq!(held.sandboxes.scan().unwrap(), [held.id()]);
    assert!(is_alive(sandbox.pid()), "the process itself knows nothing of it");
    deadline(held.sandboxes.destroy(held.id())).await.unwrap();
    assert!(!is_alive(sandbox.pid()));
    assert!(held.sandboxes.scan().unwrap().is_empty());
}

#[tokio::test]
async fn a_shim_that_hangs_is_destroyed_with_what_it_held() {
    if skip_without_root("a_shim_that_hangs_is_destroyed_with_what_it_held") {
        return;
    }
    let held = Held::shell("sleep 1000");
    let sandbox = held.launch().await;
    let (shim, first) = (held.shim_pid().unwrap(), sandbox.pid());
    kill(Pid::from_raw(shim), Signal::SIGSTOP).unwrap();
    deadline(held.sandboxes.destroy(held.id())).await.unwrap();
    wait_until(WAIT_MAX, || (!is_alive(shim) && !is_alive(first)).then_some(())).expect("something lives on");
    assert!(!held.socket().exists());
}

#[tokio::test]
async fn signals_that_end_programs_do_not_end_the_shim() {
    if skip_without_root("signals_that_end_programs_do_not_end_the_shim") {
        return;
    }
    let held = Held::shell("exec sleep 1000");
    held.launch().await;
    let shim = Pid::from_raw(held.shim_pid().unwrap());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGPIPE] {
        kill(shim, signal).unwrap();
    }
    assert!(is_alive(adopt_running(&held).await.pid()));
}

/// Whether this machine gives root CAP_SYS_RESOURCE (capability 24), without which scores can't be lowered.
fn may_lower_oom_scores() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    u64::from_str_radix(effective, 16).unwrap() & (1 << 24) != 0
}

#[tokio::test]
async fn the_shim_is_nobodys_child_in_a_session_of_its_own() {
    if skip_without_root("the_shim_is_nobodys_child_in_a_session_of_its_own") {
        return;
    }
    let held = Held::shell("exec sleep 1000");
    let sandbox = held.launch().await;
    let shim = held.shim_pid().unwrap();
    let session = nix::unistd::getsid(Some(Pid::from_raw(shim))).unwrap();
    assert_eq!(session.as_raw(), shim);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", sandbox.pid())).unwrap();
    let parent: i32 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(parent, shim, "the workload is the shim's own child");
    let cwd = std::fs::read_link(format!("/proc/{shim}/cwd")).unwrap();
    assert_eq!(cwd, Path::new("/"));
    let score = std::fs::read_to_string(format!("/proc/{shim}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), if may_lower_oom_scores() { "-999" } else { "0" });
}

#[tokio::test]
async fn an_upgrade_leaves_a_shim_the_engine_it_began_with() {
    if skip_without_root("an_upgrade_leaves_a_shim_the_engine_it_began_with") {
        return;
    }
    let mut held = Held::shell("sleep 1000");
    let installed = tempfile::tempdir().unwrap();
    let engine = installed.path().join("hypercore-engine");
    std::fs::copy(env!("CARGO_BIN_EXE_hypercore-engine"), &engine).unwrap();
    let shim = env!("CARGO_BIN_EXE_hypercore-shim").into();
    let of_this_release = Sandboxes::new(shim, engine.clone(), held.runtime_directory().to_owned());
    let next = std::mem::replace(&mut held.sandboxes, of_this_release);
    let sandbox = held.launch().await;
    held.sandboxes = next;

    // As dpkg does: the new file takes the old one's name at once.
    let beside = installed.path().join("new");
    std::fs::write(&beside, "what no shim of an older release can execute").unwrap();
    std::fs::rename(&beside, &engine).unwrap();
    let mut session = deadline(sandbox.exec(shell("echo the same engine"))).await.unwrap();
    assert_eq!(listen(&mut session).await.text(), "the same engine\n");
    assert_eq!(deadline(sandbox.release()).await.unwrap(), env!("CARGO_PKG_VERSION"));
}
