//! Golden bytes: every message as it was first released. A change here breaks shims that outlive an upgrade.

use super::*;

/// Every message of generation 1 with every field set, and its bytes in hexadecimal.
fn golden() -> Vec<(Message, &'static str)> {
    let size = Size { rows: 24, columns: 80 };
    let exec = Exec {
        argv: vec!["sh".into(), "-c".into()],
        env: vec!["K=V".into()],
        cwd: Some("/tmp".into()),
        user: Some("web:7".into()),
        tty: true,
        stdin: true,
        size: Some(size),
    };
    let state = State {
        id: "id".into(),
        attempt: 2,
        pid: 300,
        started_at_ms: 1_700_000_000_123,
        tty: true,
        stdin_open: false,
    };
    let exited = |exit| Exited { exit, started_at_ms: 1, finished_at_ms: 1_700_000_000_123 };
    let data = vec![0x00, 0xff];
    vec![
        (Hello { version_min: 1, version_max: 3 }.into(), "a36176016174016170a200010103"),
        (Fault::new(ErrorCode::FROZEN, "no").into(), "a36176016174026170a2000701626e6f"),
        (Done {}.into(), "a36176016174036170a0"),
        (Describe {}.into(), "a36176016174046170a0"),
        (state.into(), "a36176016174056170a60062696401020219012c031b0000018bcfe5687b04f505f4"),
        (Wait {}.into(), "a36176016174066170a0"),
        (exited(Exit::Code(3)).into(), "a36176016174076170a300820081030101021b0000018bcfe5687b"),
        (exited(Exit::Signal(15)).into(), "a36176016174076170a3008201810f0101021b0000018bcfe5687b"),
        (exited(Exit::OutOfMemory).into(), "a36176016174076170a3008202800101021b0000018bcfe5687b"),
        (Signal { number: 15 }.into(), "a36176016174086170a1000f"),
        (Resize { size }.into(), "a36176016174096170a100a2001818011850"),
        (OpenStdin {}.into(), "a361760161740a6170a0"),
        (Stdin { data: data.clone() }.into(), "a361760161740b6170a1004200ff"),
        (
            exec.into(),
            "a361760161740c6170a70082627368622d630181634b3d5602642f746d7003657765623a3704f505f506a2001818011850",
        ),
        (ExecStarted { pid: 301 }.into(), "a361760161740d6170a10019012d"),
        (Stdout { data: data.clone() }.into(), "a361760161740e6170a1004200ff"),
        (Stderr { data }.into(), "a361760161740f6170a1004200ff"),
        (ExecExited { exit: Exit::Code(0) }.into(), "a36176016174106170a10082008100"),
        (Window { bytes: 65_536 }.into(), "a36176016174116170a1001a00010000"),
        (Shutdown {}.into(), "a36176016174126170a0"),
        (ExecSignal { number: 9 }.into(), "a36176016174136170a10009"),
        (ExecResize { size }.into(), "a36176016174146170a100a2001818011850"),
    ]
}

/// The messages of generation 2, likewise.
fn golden_of_generation_2() -> Vec<(Message, &'static str)> {
    vec![
        (AskRelease {}.into(), "a36176026174156170a0"),
        (Release { release: "0.1".into() }.into(), "a36176026174166170a10063302e31"),
        (
            prepare().into(),
            "a36176026174176170ac00616801816a31302e302e302e322f3802816831302e302e302e310361720461\
             68051b0000018bcfe5687b0641070781a5006376646301646578743402622f6403f5040108f5096530323a30300af50b09",
        ),
        (AskStats {}.into(), "a3617602617418186170a0"),
        (stats().into(), "a3617602617418196170a6000101020203030404050506"),
        (PowerOff {}.into(), "a36176026174181a6170a0"),
        (Quiesce {}.into(), "a36176026174181b6170a0"),
        (Thaw {}.into(), "a36176026174181c6170a0"),
        (Adopt {}.into(), "a36176026174181d6170a0"),
        (Snapshot { directory: "/s".into() }.into(), "a36176026174181e6170a100622f73"),
        (
            Snapshotted { is_mapped: true, stopped_us: 65_536 }.into(),
            "a36176026174181f6170a200f5011a00010000",
        ),
        (
            CopyFiles { into: true, path: "/d".into(), follow_link: false }.into(),
            "a3617602617418206170a300f501622f6402f4",
        ),
        (
            CopyStat { exists: true, is_directory: false, name: "d".into() }.into(),
            "a3617602617418216170a300f501f4026164",
        ),
        (CopyDone { files: 1, bytes: 300 }.into(), "a3617602617418226170a200010119012c"),
    ]
}

fn prepare() -> Prepare {
    let mount = GuestMount {
        source: "vdc".into(),
        kind: "ext4".into(),
        target: "/d".into(),
        read_only: true,
        size_bytes: 1,
    };
    Prepare {
        hostname: "h".into(),
        addresses: vec!["10.0.0.2/8".into()],
        gateways: vec!["10.0.0.1".into()],
        resolv_conf: "r".into(),
        hosts: "h".into(),
        now_ms: 1_700_000_000_123,
        entropy: vec![7],
        mounts: vec![mount],
        read_only: true,
        hardware_address: Some("02:00".into()),
        is_point_to_point: true,
        pids_max: Some(9),
    }
}

const fn stats() -> Stats {
    Stats {
        memory_total_bytes: 1,
        memory_available_bytes: 2,
        cpu_usage_us: 3,
        pids: 4,
        disk_used_bytes: 5,
        disk_total_bytes: 6,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_message_has_the_bytes_it_was_released_with() {
    for (message, frozen) in golden().into_iter().chain(golden_of_generation_2()) {
        assert_eq!(hex(&message.encode()), frozen, "{message:?}");
        assert_eq!(Message::decode(&bytes(frozen)).unwrap(), message);
    }
}

#[test]
fn every_type_has_its_golden_bytes() {
    let numbers: std::collections::BTreeSet<u16> =
        golden().iter().chain(&golden_of_generation_2()).map(|(message, _)| message.number()).collect();
    let known: std::collections::BTreeSet<u16> = (0..=u16::MAX)
        .filter(|number| {
            let decoded = Message::decode_body(*number, &mut Decoder::new(&[]));
            !matches!(decoded, Err(DecodeError::UnknownType { .. }))
        })
        .collect();
    assert_eq!(numbers, known);
}

/// `{"v": 9, "t": number, "p": body}`
fn envelope(number: u16, body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut encoder = Encoder::new(&mut payload);
    encoder.map(3).unwrap().str("v").unwrap().u8(9).unwrap().str("t").unwrap().u16(number).unwrap();
    encoder.str("p").unwrap();
    payload.extend_from_slice(body);
    payload
}

#[test]
fn a_type_from_the_future_is_told_apart_from_garbage() {
    let unknown = Message::decode(&envelope(999, &bytes("a10082f6f6")));
    assert!(matches!(unknown, Err(DecodeError::UnknownType { number: 999 })), "{unknown:?}");
    for garbage in [&[][..], &[0xff], &bytes("a0"), &bytes("bfff"), &envelope(17, &bytes("a0"))] {
        assert!(matches!(Message::decode(garbage), Err(DecodeError::Malformed(_))));
    }
}

#[test]
fn a_field_from_the_future_is_skipped() {
    // {0: 65536, 7: [null, {1: "x"}]}
    let window = Message::decode(&envelope(17, &bytes("a2001a000100000782f6a1016178")));
    assert_eq!(window.unwrap(), Window { bytes: 65_536 }.into());
}

#[test]
fn a_field_that_may_be_absent_may_be_left_out() {
    // {0: ["sh"], 1: [], 4: false, 5: false}
    let exec = Message::decode(&envelope(12, &bytes("a40081627368018004f405f4")));
    let Ok(Message::Exec(exec)) = exec else { panic!("{exec:?}") };
    assert_eq!((exec.argv, exec.cwd, exec.user, exec.size), (vec!["sh".to_owned()], None, None, None));
}

#[test]
fn keys_may_come_in_any_order() {
    // {"p": {0: 1}, "t": 17}
    assert_eq!(Message::decode(&bytes("a26170a10001617411")).unwrap(), Window { bytes: 1 }.into());
}

#[test]
fn an_exec_too_large_for_a_frame_is_refused_to_its_sender() {
    let argv = vec!["x".repeat(crate::frame::FRAME_LEN_MAX)];
    let exec = Exec { argv, env: vec![], cwd: None, user: None, tty: false, stdin: false, size: None };
    let mut out = Vec::new();
    let refused = Message::from(exec).encode_to(StreamId(1), Flags::NONE, &mut out);
    assert!(matches!(refused, Err(FrameError::TooLong { .. })) && out.is_empty());
}
