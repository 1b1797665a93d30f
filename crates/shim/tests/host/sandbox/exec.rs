//! Executions: their streams, their ends, slow and vanished clients, terminals.

use hypercore_fixtures::{skip_without_root, wait_until};
use hypercore_model::ExitStatus;
use hypercore_runtime::sandbox::{ExecError, ExecEvent, ExecRequest, InputError, TerminalSize};

use super::{
    Held, deadline,
    held::{Said, WAIT_MAX, is_alive, listen, shell},
};

const IDLE: &str = "exec sleep 1000";

#[tokio::test]
async fn an_execution_has_its_own_streams_surroundings_and_end() {
    if skip_without_root("an_execution_has_its_own_streams_surroundings_and_end") {
        return;
    }
    let held = Held::shell(IDLE);
    let sandbox = held.launch().await;
    let request = ExecRequest {
        env: vec!["GREETING=hello".into()],
        user: Some("app".into()),
        workdir: Some("/tmp".into()),
        ..shell("echo $GREETING $(id -u) $(pwd); cat; echo err >&2; exit 5")
    };
    let mut session = sandbox.exec(request).await.unwrap();
    let said = listen(&mut session).await;
    let expected = Said {
        stdout: b"hello 1000 /tmp\n".to_vec(),
        stderr: b"err\n".to_vec(),
        exit: Some(ExitStatus::Code(5)),
    };
    assert_eq!(said, expected);
    assert!(matches!(session.events.next().await, Ok(None)));
    assert!(matches!(session.input.write(b"x").await, Err(InputError::NotOpen | InputError::Ended)));
}

#[tokio::test]
async fn failures_of_executions_are_told_apart() {
    if skip_without_root("failures_of_executions_are_told_apart") {
        return;
    }
    let held = Held::shell(IDLE);
    let sandbox = held.launch().await;
    let run = |argv: &str| ExecRequest { argv: vec![argv.into()], ..ExecRequest::default() };
    let error = sandbox.exec(run("no-such-program")).await.unwrap_err();
    assert!(matches!(error, ExecError::CommandNotFound(_)), "{error:?}");
    let error = sandbox.exec(run("/etc/passwd")).await.unwrap_err();
    assert!(matches!(error, ExecError::NotExecutable(_)), "{error:?}");
    let error =
        sandbox.exec(ExecRequest { user: Some("nobody-here".into()), ..shell("true") }).await.unwrap_err();
    assert!(matches!(error, ExecError::NoSuchUser(_)), "{error:?}");
    let error = sandbox.exec(shell(&"x".repeat(300_000))).await.unwrap_err();
    assert!(matches!(error, ExecError::TooLong(_)), "{error:?}");
    held.sandboxes.destroy(held.id()).await.unwrap();
    let error = sandbox.exec(shell("true")).await.unwrap_err();
    assert!(matches!(error, ExecError::NotRunning), "{error:?}");
}

#[tokio::test]
async fn a_megabyte_goes_through_unharmed() {
    if skip_without_root("a_megabyte_goes_through_unharmed") {
        return;
    }
    let held = Held::shell(IDLE);
    let sandbox = held.launch().await;
    let mut session = sandbox.exec(ExecRequest { stdin: true, ..shell("cat") }).await.unwrap();
    let sent: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
    let input = session.input.clone();
    let writes = async {
        deadline(input.write(&sent)).await.unwrap();
        input.close().await.unwrap();
    };
    let (said, ()) = tokio::join!(listen(&mut session), writes);
    assert!(said.stdout == sent, "{} bytes came back", said.stdout.len());
    assert_eq!(said.exit, Some(ExitStatus::Code(0)));
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_process_and_not_the_shim() {
    if skip_without_root("a_client_that_does_not_read_stops_the_process_and_not_the_shim") {
        return;
    }
    let held = Held::shell(IDLE);
    let sandbox = held.launch().await;
    let mut slow = sandbox.exec(shell("head -c 3000000 /dev/zero; echo -n done >&2")).await.unwrap();
    // Meanwhile others are served.
    let mut quick = sandbox.exec(shell("echo quick")).await.unwrap();
    assert_eq!(listen(&mut quick).await.text(), "quick\n");
    assert!(is_alive(slow.pid), "it can't have written more than pipe and credit hold");
    let said = listen(&mut slow).await;
    assert_eq!((said.stdout.len(), said.stderr.as_slice()), (3_000_000, &b"done"[..]));
}

#[tokio::test]
async fn many_run_at_once() {
    if skip_without_root("many_run_at_once") {
        return;
    }
    let held = Held::shell(IDLE);
    let sandbox = held.launch().await;
    let run = async |number: u32| {
        let mut session = sandbox.exec(shell(&format!("echo {number}; exit {number}"))).await.unwrap();
        listen(&mut session).await
    };
    let all = futures_util::future::join_all((0..20).map(run)).await;
    for (number, said) in (0u8..).zip(all) {
        assert_eq!((said.text(), said.exit), (format!("{number}\n"), Some(ExitStatus::Code(number))));
    }
}

#[tokio::test]
async fn what_was_written_last_is_not_lost_and_a_child_left_behind_is_not_waited_for() {
    if skip_without_root("what_was_written_last_is_not_lost_and_a_child_left_behind_is_not_waited_for") {
        return;
    }
    let held = Held::shell(IDLE);
    let sandbox = held.launch().await;
    let mut session = sandbox.exec(shell("sleep 1000 & head -c 60000 /dev/zero; exit 4")).await.unwrap();
    let said = listen(&mut session).await;
    assert_eq!((said.stdout.len(), said.exit), (60_000, Some(ExitStatus::Code(4))));
}

#[tokio::test]
async fn a_vanished_client_takes_nothing_with_it_and_leaves_nothing_open() {
    if skip_without_root("a_vanished_client_takes_nothing_with_it_and_leaves_nothing_open") {
        return;
    }
    let held = Held::shell(IDLE);
    let sandbox = held.launch().await;
    let shim = held.shim_pid().unwrap();
    let open_files = || std::fs::read_dir(format!("/proc/{shim}/fd")).unwrap().count();
    let before = open_files();

    let script = "cat; yes | head -c 1000000; echo finished > /tmp/finished";
    let session = sandbox.exec(ExecRequest { stdin: true, ..shell(script) }).await.unwrap();
    let hung_up =
        sandbox.exec(ExecRequest { tty: true, stdin: true, ..shell("exec sleep 1000") }).await.unwrap();
    let terminal_pid = hung_up.pid;
    drop((session, hung_up));
    // Its input ended, so that it went on, and its output went nowhere, so that it came to the end.
    let finished = wait_until(WAIT_MAX, || {
        let has_written = held.directory().join("rootfs/tmp/finished").exists();
        (has_written && !is_alive(terminal_pid) && open_files() <= before).then_some(())
    });
    finished.expect("it did not end, or something stays open");
}

#[tokio::test]
async fn a_terminal_is_one_and_has_the_size_it_was_given() {
    if skip_without_root("a_terminal_is_one_and_has_the_size_it_was_given") {
        return;
    }
    let held = Held::shell(IDLE);
    let sandbox = held.launch().await;
    let script = "stty size; trap 'stty size; exit' WINCH; echo ready >&2; while :; do sleep 0.01; done";
    let size = |rows, columns| TerminalSize { rows, columns };
    let request = ExecRequest { tty: true, size: Some(size(11, 22)), ..shell(script) };
    let mut session = sandbox.exec(request).await.unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("ready") {
        match deadline(session.events.next()).await.unwrap() {
            Some(ExecEvent::Stdout(data)) => said.extend(data),
            other => panic!("{other:?}"),
        }
    }
    session.input.resize(size(33, 44)).await.unwrap();
    said.extend(listen(&mut session).await.stdout);
    assert_eq!(String::from_utf8_lossy(&said), "11 22\r\nready\r\n33 44\r\n");
}

#[tokio::test]
async fn input_to_a_terminal_ends_as_if_typed() {
    if skip_without_root("input_to_a_terminal_ends_as_if_typed") {
        return;
    }
    let held = Held::shell(IDLE);
    let sandbox = held.launch().await;
    let mut session =
        sandbox.exec(ExecRequest { tty: true, stdin: true, ..shell("stty -echo; cat") }).await.unwrap();
    session.input.write(b"typed\n").await.unwrap();
    session.input.close().await.unwrap();
    let said = listen(&mut session).await;
    assert!(said.text().ends_with("typed\r\n"), "{:?}", said.text());
    assert_eq!(said.exit, Some(ExitStatus::Code(0)));
}

#[tokio::test]
async fn signals_reach_an_execution_and_never_the_workload() {
    if skip_without_root("signals_reach_an_execution_and_never_the_workload") {
        return;
    }
    let held = Held::shell(IDLE);
    let sandbox = held.launch().await;
    let mut session = sandbox.exec(shell("exec sleep 1000")).await.unwrap();
    session.input.signal(15).await.unwrap();
    assert_eq!(listen(&mut session).await.exit, Some(ExitStatus::Signal(15)));
    // Too late: there is nobody to take it.
    let _ = session.input.signal(9).await;
    let mut other = sandbox.exec(shell("echo alive")).await.unwrap();
    assert_eq!(listen(&mut other).await.text(), "alive\n");
}

#[tokio::test]
async fn the_end_of_the_workload_is_the_end_of_its_executions() {
    if skip_without_root("the_end_of_the_workload_is_the_end_of_its_executions") {
        return;
    }
    let held = Held::shell(IDLE);
    let sandbox = held.launch().await;
    let mut session = sandbox.exec(shell("echo before; exec sleep 1000")).await.unwrap();
    assert_eq!(deadline(session.events.next()).await.unwrap(), Some(ExecEvent::Stdout(b"before\n".to_vec())));
    sandbox.signal(9).await.unwrap();
    assert_eq!(listen(&mut session).await.exit, Some(ExitStatus::Signal(9)));
    assert_eq!(deadline(sandbox.exited()).await.unwrap().exit, ExitStatus::Signal(9));
}
