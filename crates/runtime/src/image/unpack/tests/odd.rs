//! Members that are odd but honest, and some that are neither.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use super::*;

#[test]
fn times_before_1970_and_long_after_today_are_kept() {
    if skip_without_root("times_before_1970_and_long_after_today_are_kept") {
        return;
    }
    let scene = Scene::new();
    let binary = |mtime: i64| {
        // As GNU tar writes what has no place in eleven octal digits: a first bit, then two's complement.
        let mut field = [if mtime < 0 { 0xff } else { 0x80 }; 12];
        field[1..4].fill(if mtime < 0 { 0xff } else { 0 });
        field[4..].copy_from_slice(&mtime.to_be_bytes());
        field
    };
    let stamped = |tar: TarFixture, name: &str, mtime: i64| {
        let field = binary(mtime);
        tar.member(EntryType::Regular, name, b"", |header| header.as_old_mut().mtime = field)
    };
    let tar = TarFixture::new().pax(&[("mtime", b"-86400.5")]).file("pax-past", b"");
    let tar = tar.pax(&[("mtime", b"7258118400")]).file("pax-future", b"");
    let tar = stamped(stamped(tar, "gnu-past", -86_400), "gnu-future", 7_258_118_400);
    scene.unpack(stamped(tar, "absurd", i64::MAX)).unwrap();
    let mtime = |name: &str| {
        let metadata = fs::metadata(scene.layer(name)).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    assert_eq!((mtime("pax-past"), mtime("gnu-past")), ((-86_401, 500_000_000), (-86_400, 0)));
    assert_eq!((mtime("pax-future"), mtime("gnu-future")), ((7_258_118_400, 0), (7_258_118_400, 0)));
    assert!(mtime("absurd").0 >= 7_258_118_400, "as late as the file system can say");
}

#[test]
fn names_of_any_bytes_are_kept_and_shown_harmlessly() {
    if skip_without_root("names_of_any_bytes_are_kept_and_shown_harmlessly") {
        return;
    }
    let scene = Scene::new();
    let names: [&[u8]; 4] =
        [b"latin-\xe9", b"\xff\xfe", b"esc\x1b[2J\r\nfake: ok", "rtl\u{202e}txt".as_bytes()];
    let tar =
        names.iter().fold(TarFixture::new(), |tar, name| tar.pax(&[("path", name)]).file("short", b"x"));
    scene.unpack(tar).unwrap();
    for name in names {
        assert!(scene.layer("").join(OsStr::from_bytes(name)).is_file(), "{name:?}");
    }
    let bad = TarFixture::new().pax(&[("path", b"a/../\x1b[2J\n\xe2\x80\xaeb")]).file("short", b"x");
    let message = Scene::new().unpack(bad).unwrap_err().to_string();
    assert!(message.contains("[2J") && !message.contains(['\u{1b}', '\n', '\u{202e}']), "{message:?}");
}

#[test]
fn large_owners_are_kept_up_to_what_linux_has() {
    if skip_without_root("large_owners_are_kept_up_to_what_linux_has") {
        return;
    }
    let scene = Scene::new();
    let tar = TarFixture::new()
        .pax(&[("uid", b"4294967294"), ("gid", b"3000000000")])
        .file("pax", b"")
        .member(EntryType::Regular, "octal", b"", |header| header.set_uid(2_000_000))
        .member(EntryType::Regular, "binary", b"", |header| header.set_uid(4_000_000_000));
    scene.unpack(tar).unwrap();
    let owner = |name: &str| fs::metadata(scene.layer(name)).map(|it| (it.uid(), it.gid())).unwrap();
    assert_eq!(owner("pax"), (4_294_967_294, 3_000_000_000));
    assert_eq!((owner("octal").0, owner("binary").0), (2_000_000, 4_000_000_000));
    for uid in ["4294967295", "4294967296", "18446744073709551616", "-1"] {
        let tar = TarFixture::new().pax(&[("uid", uid.as_bytes())]).file("x", b"");
        assert!(matches!(Scene::new().unpack(tar), Err(UnpackError::Archive(_))), "{uid}");
    }
}

#[test]
fn sparse_files_are_refused_in_every_format() {
    let formats: [&[(&str, &[u8])]; 3] = [
        &[("GNU.sparse.size", b"10"), ("GNU.sparse.numblocks", b"0")],
        &[("GNU.sparse.map", b"0,1")],
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"10")],
    ];
    for records in formats {
        let error = Scene::new().unpack(TarFixture::new().pax(records).file("x", b"")).unwrap_err();
        assert!(matches!(error, UnpackError::Archive(ArchiveError::Sparse)), "{error:?}");
    }
    let old = TarFixture::new().member(EntryType::GNUSparse, "x", b"", |_| {});
    let error = Scene::new().unpack(old).unwrap_err();
    assert!(matches!(error, UnpackError::Archive(ArchiveError::Sparse)), "{error:?}");
}

#[test]
fn deep_and_long_names_are_refused() {
    for (name, why) in [
        ("d/".repeat(300), PathError::TooDeep),
        ("n".repeat(256), PathError::TooLong),
        (format!("{}/x", "n".repeat(250)).repeat(20), PathError::TooLong),
    ] {
        let error = Scene::new().unpack(TarFixture::new().pax(&[("path", name.as_bytes())]).file("x", b""));
        let Err(UnpackError::Name { member, source }) = error else { panic!("{error:?}") };
        assert!(source == why && member.chars().count() <= 201, "{source}: {member}");
    }
}

#[test]
fn what_compresses_too_well_is_a_bomb() {
    let mebibyte = 1024 * 1024;
    // Anything may unpack to a gibibyte, and a large layer to what gzip can do at most.
    assert_eq!(UnpackLimits::of_blob(100).bytes_max, 1024 * mebibyte);
    assert_eq!(UnpackLimits::of_blob(10 * mebibyte).bytes_max, 11_000 * mebibyte);
    assert_eq!(UnpackLimits::of_blob(u64::MAX).bytes_max, UnpackLimits::default().bytes_max);
}
