//! The first process's own streams: input, terminal, and the log with its limits and misfortunes.

use hypercore_fixtures::{skip_without_root, wait_until};
use hypercore_model::ExitStatus;
use hypercore_runtime::{
    log::LogStream,
    sandbox::{InputError, LogLimits, RequestError, TerminalSize},
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Held, deadline, held::WAIT_MAX};

#[tokio::test]
async fn without_an_open_input_the_process_reads_end_of_file() {
    if skip_without_root("without_an_open_input_the_process_reads_end_of_file") {
        return;
    }
    let held = Held::shell("cat; echo read; exec sleep 1000");
    let sandbox = held.launch().await;
    held.wait_for_output("read").await;
    let error = sandbox.open_stdin().await.unwrap_err();
    assert!(matches!(error, InputError::NotOpen), "{error:?}");
    let error = sandbox.resize(TerminalSize { rows: 1, columns: 1 }).await.unwrap_err();
    assert!(matches!(error, RequestError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn an_open_input_outlives_its_writers_until_one_closes_it() {
    if skip_without_root("an_open_input_outlives_its_writers_until_one_closes_it") {
        return;
    }
    let held = Held::shell("cat; echo closed").with_stdin();
    let sandbox = held.launch().await;
    let (first, second) = (sandbox.open_stdin().await.unwrap(), sandbox.open_stdin().await.unwrap());
    first.write(b"one\n").await.unwrap();
    held.wait_for_output("one").await;
    drop(first);
    deadline(second.write(&b"x".repeat(200_000))).await.unwrap();
    second.close().await.unwrap();
    assert_eq!(deadline(sandbox.exited()).await.unwrap().exit, ExitStatus::Code(0));
    let logged = held.logged(LogStream::Stdout).await;
    assert_eq!(logged.len(), "one\n".len() + 200_000 + "closed\n".len());
    assert!(logged.ends_with("closed\n"));
    let error = sandbox.open_stdin().await.unwrap_err();
    assert!(matches!(error, InputError::Ended), "{error:?}");
}

#[tokio::test]
async fn a_writer_is_not_held_up_by_a_process_that_closed_its_input() {
    if skip_without_root("a_writer_is_not_held_up_by_a_process_that_closed_its_input") {
        return;
    }
    let held = Held::shell("exec 0<&-; echo deaf; exec sleep 1000").with_stdin();
    let sandbox = held.launch().await;
    held.wait_for_output("deaf").await;
    let input = sandbox.open_stdin().await.unwrap();
    deadline(input.write(&vec![0; 500_000])).await.unwrap();
}

#[tokio::test]
async fn a_terminal_is_logged_resized_and_typed_into() {
    if skip_without_root("a_terminal_is_logged_resized_and_typed_into") {
        return;
    }
    let script = "stty -echo; echo ready; read line; stty size; read line; echo got $line";
    let held = Held::shell(script).with_terminal().with_stdin();
    let sandbox = held.launch().await;
    assert!(sandbox.has_tty());
    held.wait_for_output("ready").await;
    sandbox.resize(TerminalSize { rows: 7, columns: 77 }).await.unwrap();
    let input = sandbox.open_stdin().await.unwrap();
    input.write(b"first\n").await.unwrap();
    held.wait_for_output("7 77").await;
    input.write(b"second\n").await.unwrap();
    assert_eq!(deadline(sandbox.exited()).await.unwrap().exit, ExitStatus::Code(0));
    assert_eq!(held.logged(LogStream::Stdout).await, "ready\r\n7 77\r\ngot second\r\n");
}

#[tokio::test]
async fn the_log_is_bounded_and_its_end_is_kept() {
    if skip_without_root("the_log_is_bounded_and_its_end_is_kept") {
        return;
    }
    let mut held = Held::shell("seq 1 200000");
    held.request.log = LogLimits { file_bytes_max: 100_000, files_max: 3 };
    deadline(held.launch().await.exited()).await.unwrap();
    let logged = held.logged(LogStream::Stdout).await;
    assert!(logged.ends_with("199999\n200000\n"), "{}", &logged[logged.len() - 40..]);
    let files = std::fs::read_dir(held.directory().join("log")).unwrap();
    let len: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!((200_000..=300_000).contains(&len), "{len} bytes");
}

#[tokio::test]
async fn a_full_disk_costs_output_but_not_the_workload_nor_its_record() {
    if skip_without_root("a_full_disk_costs_output_but_not_the_workload_nor_its_record") {
        return;
    }
    let held = Held::shell("head -c 3000000 /dev/zero; echo > /tmp/full; read line; echo $line; exit 6")
        .with_stdin();
    let log = held.directory().join("log");
    std::fs::create_dir(&log).unwrap();
    let small = SmallDisk::mount(&log);
    let sandbox = held.launch().await;
    let input = sandbox.open_stdin().await.unwrap();
    let is_full = wait_until(WAIT_MAX, || held.directory().join("rootfs/tmp/full").exists().then_some(()));
    is_full.expect("the workload was held up by the full disk");
    // Room again.
    small.grow();
    input.write(b"room again\n").await.unwrap();
    assert_eq!(deadline(sandbox.exited()).await.unwrap().exit, ExitStatus::Code(6));
    assert!(held.logged(LogStream::Stdout).await.ends_with("room again\n"));
    let told = held.logged(LogStream::System).await;
    assert!(told.contains("bytes of output") && told.contains("were lost"), "{told:?}");
}

/// A file system of 1 MiB, unmounted when dropped.
struct SmallDisk<'a>(&'a std::path::Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a std::path::Path) -> Self {
        mount(Some("log"), path, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
        Self(path)
    }

    fn grow(&self) {
        mount(Some("log"), self.0, Some("tmpfs"), MsFlags::MS_REMOUNT, Some("size=8m")).unwrap();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        umount2(self.0, MntFlags::MNT_DETACH).unwrap();
    }
}
