//! `cp` both ways, with workloads that do their worst.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio};

use hypercore_api::{Client, client::Proof, v1};
use hypercore_fixtures::wait_until;

use super::{House, SOON};
use crate::program::{Ended, finish};

fn in_scratch(house: &House, arguments: &[&str], input: &[u8]) -> Ended {
    finish(house.node.command(arguments).current_dir(house.node.path(".")), input)
}

pub(super) fn files_go_in_and_come_out(house: &mut House) {
    house.detach("job", &[], &["sleep", "1000"]);
    let at = |path: &str| house.node.path(path);
    fs::create_dir_all(at("site/css")).unwrap();
    fs::write(at("site/index.html"), "hello").unwrap();
    fs::write(at("site/css/a.css"), vec![b'x'; 3 << 20]).unwrap();
    fs::set_permissions(at("site/index.html"), fs::Permissions::from_mode(0o640)).unwrap();
    in_scratch(house, &["cp", "site", "job:/var/www"], b"").expect(0);
    let listed = house.exec(&[], &["stat", "-c", "%a %u %s", "/var/www/site/index.html"]).expect(0);
    assert_eq!(listed.stdout, "640 0 5\n");
    // The directory is there now: what is in it goes right in, and what is to be new gets its name.
    in_scratch(house, &["cp", "./site/.", "job:/var/www/site/"], b"").expect(0);
    in_scratch(house, &["cp", "site/index.html", "job:/tmp/page"], b"").expect(0);
    assert_eq!(house.exec(&[], &["cat", "/tmp/page"]).expect(0).stdout, "hello");
    in_scratch(house, &["cp", "job:/var/www/site", "back"], b"").expect(0);
    assert_eq!(fs::read(at("back/css/a.css")).unwrap().len(), 3 << 20);
    assert_eq!(fs::metadata(at("back/index.html")).unwrap().permissions().mode() & 0o777, 0o640);
    let stream = in_scratch(house, &["cp", "job:/tmp/page", "-"], b"").expect(0);
    assert!(stream.stdout.starts_with("page\0"), "{:?}", &stream.stdout[..20]);
    in_scratch(house, &["cp", "-", "job:/var"], stream.stdout.as_bytes()).expect(0);
    assert_eq!(house.exec(&[], &["cat", "/var/page"]).expect(0).stdout, "hello");
    // A stream that breaks off is no copy.
    let half = &stream.stdout.as_bytes()[..300];
    let broken = in_scratch(house, &["cp", "-", "job:/var"], half);
    assert!(broken.code != Some(0) && !broken.stderr.contains("panicked"), "{broken:?}");
}

pub(super) fn mistakes_with_files_are_told(house: &mut House) {
    house.detach("job", &["--read-only", "--tmpfs", "/tmp:size=1m"], &["sleep", "1000"]);
    fs::write(house.node.path("file"), "x").unwrap();
    fs::write(house.node.path("large"), vec![1; 4 << 20]).unwrap();
    for (arguments, code, told) in [
        (["cp", "job:/nosuch", "."], 3, "there is no /nosuch"),
        (["cp", "nojob:/etc", "."], 3, "nojob"),
        (["cp", "job:/etc/passwd/", "."], 2, "/etc/passwd is not a directory"),
        (["cp", "job:/etc/passwd", "nodir/"], 3, "there is no directory"),
        (["cp", "job:/etc", "file"], 2, "is a file"),
        (["cp", "job:/proc/version", "."], 2, "the kernel's own"),
        (["cp", "file", "job:/nodir/x"], 3, "there is no /nodir"),
        (["cp", "nofile", "job:/tmp"], 3, "nofile"),
        (["cp", "file", "job:/srv"], 6, "Read-only file system"),
        (["cp", "large", "job:/tmp"], 1, "No space left"),
        (["cp", "file", "other"], 2, "neither side"),
        (["cp", "job:/a", "job:/b"], 2, "both sides"),
    ] {
        let ended = in_scratch(house, &arguments, b"");
        assert!(ended.code == Some(code) && ended.stderr.contains(told), "{arguments:?}: {ended:#?}");
        assert!(!ended.stderr.contains("panicked"), "{ended:#?}");
    }
}

pub(super) fn a_copy_that_nobody_reads_holds_up_nothing(house: &mut House) {
    house.detach("job", &[], &["sh", "-c", "head -c 20000000 /dev/zero > /large; echo made; sleep 1000"]);
    house.wait_for_log("job", "made\n");
    let mut copying = house.node.command(&["cp", "job:/large", "-"]);
    let mut copying = copying.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let unread = copying.stdout.take().unwrap();
    let piece = house.exec(&[], &["head", "-c", "300000", "/large"]).expect(0);
    assert_eq!(piece.stdout.len(), 300_000);
    assert_eq!(copying.try_wait().unwrap(), None, "all of it was taken by somebody");
    copying.kill().unwrap();
    copying.wait().unwrap();
    drop(unread);
    // What was broken off is forgotten: as many copies as may be under way at a time begin after it.
    for _ in 0..20 {
        in_scratch(house, &["cp", "job:/etc/passwd", "passwd"], b"").expect(0);
    }
}

/// Bytes of the stream of `/large`, by a caller that closes its half at once.
async fn read_alone(endpoint: &str) -> usize {
    let client = Client::connect(&endpoint.parse().unwrap(), Proof::default()).await.unwrap();
    let start = v1::CopyStart { id: "job".into(), path: "/large".into(), ..Default::default() };
    let mut session = client.copy(start).await.unwrap();
    drop(session.input);
    let mut len = 0;
    while let Some(answer) = session.output.next().await.unwrap() {
        match answer.message.unwrap() {
            v1::copy_response::Message::Data(data) => len += data.len(),
            v1::copy_response::Message::Done(_) => return len,
            v1::copy_response::Message::Stat(_) => {}
        }
    }
    panic!("the copy ended without a word")
}

pub(super) fn who_copies_out_needs_to_say_nothing_more(house: &mut House) {
    house.detach("job", &[], &["sh", "-c", "head -c 3000000 /dev/zero > /large; echo made; sleep 1000"]);
    house.wait_for_log("job", "made\n");
    let endpoint = format!("unix:{}", house.node.path("run/api.sock").display());
    let len = tokio::runtime::Runtime::new().unwrap().block_on(read_alone(&endpoint));
    assert!(len > 3_000_000, "{len} bytes came");
}

/// Swaps a directory for a link to the host's root path and back for as long as it is copied, and offers names that lead
/// out to whoever unpacks them.
const ENEMY: &str = "mkdir -p /d/e /d/f; echo inside > /d/e/canary; echo ready
while :; do mv /d/e /d/g; ln -s \"$0\" /d/e; rm /d/e; mv /d/g /d/e; done";

pub(super) fn an_enemy_reaches_nothing_outside(house: &mut House) {
    let outside = house.node.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "untouched").unwrap();
    let path = outside.to_str().unwrap();
    house.detach("enemy", &[], &["sh", "-c", ENEMY, path]);
    house.wait_for_log("enemy", "ready\n");
    fs::create_dir_all(house.node.path("in/e")).unwrap();
    fs::write(house.node.path("in/e/canary"), "written").unwrap();
    for round in 0..15 {
        let out = house.node.path(&format!("out{round}"));
        let _ = in_scratch(house, &["cp", "enemy:/d/e", out.to_str().unwrap()], b"");
        // What was a link at that moment comes out as a link: only a directory's files were read.
        let is_directory = fs::symlink_metadata(&out).is_ok_and(|metadata| metadata.is_dir());
        if let Ok(copied) = fs::read_to_string(out.join("canary"))
            && is_directory
        {
            assert_ne!(copied, "untouched");
        }
        let _ = in_scratch(house, &["cp", "in/.", "enemy:/d"], b"");
        let _ = in_scratch(house, &["cp", "in/e/canary", "enemy:/d/e/canary"], b"");
    }
    assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    house.node.run(&["rm", "-f", "enemy"]).expect(0);
    // The host's own files are not to be had by a link either, nor those of the machine's own agent.
    house.detach("job", &[], &["sh", "-c", "ln -s \"$0/canary\" /way; ln -s / /top; sleep 1000", path]);
    let is_linked = || (house.exec(&[], &["readlink", "/top"]).stdout == "/\n").then_some(());
    wait_until(SOON, is_linked).unwrap();
    in_scratch(house, &["cp", "-L", "job:/way", "got"], b"").expect(3);
    in_scratch(house, &["cp", "-L", "job:/top/proc/1/root/etc", "got"], b"").expect(1);
    in_scratch(house, &["cp", "job:/../../init", "got"], b"").expect(3);
}
