//! Limits of a workload's network, measured: what it sends and what it receives, also after the agent began anew.

use std::{
    io,
    net::{IpAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use hypercore_runtime::network::{Attachment, AttachmentRequest};

use super::lab::{Lab, OUTSIDE, id, inside, on_a_machine, run};

/// In bytes a second; a packet's headers count too.
const RATE: u64 = 2_000_000;
/// How long is measured.
const WINDOW: Duration = Duration::from_secs(1);
const PORT: u16 = 9000;

fn limited(bytes_per_s: Option<u64>) -> AttachmentRequest {
    AttachmentRequest { bytes_per_s, ..AttachmentRequest::default() }
}

/// Bytes of payload that arrive at `receiver` in the window while `sender` sends all it can to `address`, and how long
/// it was.
fn flood(sender: &UdpSocket, receiver: &UdpSocket, address: IpAddr) -> (u64, Duration) {
    let is_over = AtomicBool::new(false);
    receiver.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // A full queue, or a firewall that says what it did.
                let _ = sender.send_to(&[7; 1200], (address, PORT));
            }
        });
        let (begun, mut bytes, mut packet) = (Instant::now(), 0, [0; 2048]);
        while begun.elapsed() < WINDOW {
            match receiver.recv(&mut packet) {
                Ok(len) => bytes += len as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        let took = begun.elapsed();
        is_over.store(true, Ordering::Relaxed);
        (bytes, took)
    })
}

/// Measures what a workload sends to the outside, and what it gets from the host.
fn measure(lab: &Lab, workload: &Attachment) -> [(u64, Duration); 2] {
    let any = |port| UdpSocket::bind(("0.0.0.0", port)).unwrap();
    let (outside, within) = (lab.outside(|| any(PORT)), inside(workload, || any(PORT)));
    let sender = inside(workload, || any(0));
    let out = flood(&sender, &outside, OUTSIDE.into());
    let into = flood(&any(0), &within, workload.address.into());
    [out, into]
}

#[track_caller]
fn assert_limited(measured: [(u64, Duration); 2]) {
    for (bytes, took) in measured {
        // A second's worth, and the burst, come at once.
        let most = RATE as f64 * (took.as_secs_f64() + 1.0) + 300_000.0;
        assert!((bytes as f64) < most, "{bytes} bytes in {took:?}, with a limit of {RATE} a second");
        assert!(bytes > RATE / 10, "only {bytes} bytes in {took:?}");
    }
}

#[test]
fn a_workload_sends_and_receives_no_more_than_its_limit() {
    on_a_machine("a_workload_sends_and_receives_no_more_than_its_limit", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let slow = network.attach(id(1), &limited(Some(RATE))).await.unwrap();
        let free = network.attach(id(2), &limited(None)).await.unwrap();
        assert_limited(measure(lab, &slow));
        let [(out, _), (into, _)] = measure(lab, &free);
        assert!(out.min(into) > 3 * RATE, "one without a limit is limited: {out}, {into}");
        drop(network);
        // The rules are made anew, from what is known of the workloads.
        let network = lab.open(vec![slow.clone(), free]).await.unwrap();
        assert_limited(measure(lab, &slow));
        network.detach(id(1)).await.unwrap();
        let rules = run("nft", "list ruleset");
        assert!(!rules.contains("limit rate"), "a limit outlived its workload: {rules}");
    });
}
