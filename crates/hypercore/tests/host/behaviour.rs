//! What a workload is promised, whatever stands between it and its host: the same cases, with a container and with a
//! microVM that really boots. A difference between the two is a failure here, unless `microvm` names it.

mod confidence;
mod files;
mod network;
mod resources;
mod storage;

use std::{fs, path::Path, thread, time::Duration};

use hypercore_fixtures::{skip_without_machines, skip_without_root, wait_until};

use crate::{
    contact::get,
    node::{Node, free_address},
    program::{Ended, finish},
    screen::Screen,
};

use confidence::what_it_is_given_in_confidence_stays_off_the_disk;
use files::{
    a_copy_that_nobody_reads_holds_up_nothing, an_enemy_reaches_nothing_outside, files_go_in_and_come_out,
    mistakes_with_files_are_told, who_copies_out_needs_to_say_nothing_more,
};
use network::{it_is_reached_by_either_family, its_name_leads_to_it};
use resources::{
    its_processor_time_is_limited, its_time_to_live_ends_it, memory_that_it_gives_up_is_its_hosts_again,
    too_many_processes_are_refused_and_nothing_else,
};
use storage::{a_directory_of_the_host_is_shared, a_volume_outlives_it};

/// A machine that is emulated takes seconds to boot, more when others boot beside it.
const SOON: Duration = Duration::from_secs(60);

/// A node whose workloads are all of one kind.
struct House {
    node: Node,
    flags: &'static [&'static str],
}

impl House {
    fn is_container(&self) -> bool {
        self.flags.is_empty()
    }

    fn run(&self, flags: &[&str], command: &[&str]) -> Ended {
        self.run_with(flags, command, b"")
    }

    fn run_with(&self, flags: &[&str], command: &[&str], input: &[u8]) -> Ended {
        let arguments = [&["run"], self.flags, flags, &["busybox", "--"], command].concat();
        finish(&mut self.node.command(&arguments), input)
    }

    #[track_caller]
    fn detach(&self, name: &str, flags: &[&str], command: &[&str]) {
        self.node.detach(&[self.flags, &["--name", name], flags, &["busybox", "--"], command].concat());
    }

    #[track_caller]
    fn exec(&self, flags: &[&str], command: &[&str]) -> Ended {
        self.node.run(&[&["exec"], flags, &["job", "--"], command].concat())
    }

    fn logs(&self, name: &str) -> String {
        self.node.run(&["logs", name]).expect(0).stdout
    }

    /// Waits until this was said.
    #[track_caller]
    fn wait_for_log(&self, name: &str, text: &str) {
        let said = wait_until(SOON, || self.logs(name).contains(text).then_some(()));
        assert!(
            said.is_some(),
            "{name} never said {text:?}: {:?}\n{}",
            self.logs(name),
            self.node.agent_log()
        );
    }

    fn screen(&self, arguments: &[&str]) -> Screen {
        Screen::begin(&self.node.path("run/api.sock"), arguments)
    }
}

/// Each case becomes two tests.
macro_rules! behaviours {
    ($($case:ident,)*) => {
        mod container {
            use super::*;
            $(#[test]
            fn $case() {
                let test = concat!("container::", stringify!($case));
                if !skip_without_root(test) {
                    in_house(&[], super::$case);
                }
            })*
        }

        mod microvm {
            use super::*;
            $(#[test]
            fn $case() {
                let test = concat!("microvm::", stringify!($case));
                if !skip_without_machines(test) {
                    in_house(&["--isolation", "microvm"], super::$case);
                }
            })*
        }
    };
}

fn in_house(flags: &'static [&'static str], case: fn(&mut House)) {
    let mut house = House { node: Node::start(), flags };
    case(&mut house);
    house.node.finish();
}

behaviours! {
    outputs_are_apart_and_the_code_comes_back,
    what_can_not_be_started_has_the_codes_of_shells,
    the_process_sees_what_the_flags_and_the_image_say,
    input_goes_in_and_comes_back,
    a_terminal_has_the_right_size_and_follows_it,
    others_can_be_executed_beside_the_first,
    it_ends_when_asked_and_is_killed_when_deaf,
    signals_reach_the_first_process,
    it_stands_still_when_paused,
    a_published_port_answers,
    it_writes_only_where_it_may,
    too_much_memory_is_its_end_and_is_told,
    it_is_started_again_with_its_files,
    it_lives_on_without_the_agent,
    a_killed_shim_takes_all_of_it_along,
    tenants_do_not_reach_each_other,
    it_is_kept_if_it_is_a_machine,
    files_go_in_and_come_out,
    mistakes_with_files_are_told,
    a_copy_that_nobody_reads_holds_up_nothing,
    who_copies_out_needs_to_say_nothing_more,
    an_enemy_reaches_nothing_outside,
    what_it_is_given_in_confidence_stays_off_the_disk,
    too_many_processes_are_refused_and_nothing_else,
    its_processor_time_is_limited,
    memory_that_it_gives_up_is_its_hosts_again,
    its_time_to_live_ends_it,
    its_name_leads_to_it,
    it_is_reached_by_either_family,
    a_volume_outlives_it,
    a_directory_of_the_host_is_shared,
}

fn outputs_are_apart_and_the_code_comes_back(house: &mut House) {
    let ended = house.run(&["--rm"], &["sh", "-c", "echo out; echo err >&2; exit 7"]).expect(7);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
    // A first process can't end itself by a signal; the shell says of its child what others say of theirs.
    let script = "head -c 3000000 /dev/zero; sh -c 'kill -9 $$'; exit $?";
    let ended = house.run(&["--rm"], &["sh", "-c", script]);
    assert_eq!((ended.code, ended.stdout.len()), (Some(137), 3_000_000), "{}", ended.stderr);
    assert_eq!(house.node.run(&["ps", "-aq"]).expect(0).stdout, "", "--rm left something");
}

fn what_can_not_be_started_has_the_codes_of_shells(house: &mut House) {
    let missing = house.run(&["--rm"], &["nosuch"]).expect(127);
    assert!(missing.stderr.contains("nosuch"), "{missing:?}");
    let refused = house.run(&["--rm"], &["/etc/passwd"]).expect(126);
    assert!(refused.stderr.contains("/etc/passwd"), "{refused:?}");
    let stranger = house.run(&["--rm", "-u", "stranger"], &["true"]);
    assert!(
        stranger.code.is_some_and(|code| code != 0) && stranger.stderr.contains("stranger"),
        "{stranger:?}"
    );
}

fn the_process_sees_what_the_flags_and_the_image_say(house: &mut House) {
    let flags = [
        "--rm",
        "-u",
        "app:staff",
        "-w",
        "/tmp",
        "--hostname",
        "box",
        "-e",
        "MODE=te st",
        "--entrypoint",
        "sh",
    ];
    let script = "id -u; id -g; pwd; hostname; echo \"$MODE $HOME $1\"; grep -q box /etc/hosts && echo hosts; \
                  test -s /etc/resolv.conf && echo dns; ls -d /proc/self/fd /dev/null /dev/pts /dev/shm /sys/class; \
                  echo x > /dev/null; touch /tmp/mine && echo wrote; echo $$";
    let ended = house.run(&flags, &["-c", script, "sh", "argument"]).expect(0);
    let expected = "1000\n50\n/tmp\nbox\nte st /home/app argument\nhosts\ndns\n\
                    /dev/null\n/dev/pts\n/dev/shm\n/proc/self/fd\n/sys/class\nwrote\n";
    let (told, pid) = ended.stdout.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(format!("{told}\n"), expected, "{ended:?}");
    assert!(pid.parse::<u32>().is_ok(), "{ended:?}");
}

fn input_goes_in_and_comes_back(house: &mut House) {
    let input = "a line of input\n".repeat(40_000);
    let ended = house.run_with(&["--rm", "-i"], &["cat"], input.as_bytes()).expect(0);
    assert!(ended.stdout == input, "{} bytes of {} came back", ended.stdout.len(), input.len());
    let ended = house.run_with(&["--rm"], &["cat"], b"not for you").expect(0);
    assert_eq!(ended.stdout, "", "without -i no input may go in");
}

fn a_terminal_has_the_right_size_and_follows_it(house: &mut House) {
    let arguments = [&["run", "--rm", "-it"], house.flags, &["busybox", "--", "sh"]].concat();
    let mut screen = house.screen(&arguments);
    screen.wait_for("# ");
    // What is typed is echoed: the text looked for must not stand in it.
    screen.type_keys(b"test -t 0 && stty size; trap 'stty size' WINCH; echo rea''dy\r");
    screen.wait_for("31 97");
    screen.wait_for("ready");
    screen.resize(41, 83);
    screen.type_keys(b"until stty size | grep '41 83'; do :; done\r");
    screen.wait_for("41 83\r\n");
    // Ctrl-C is the terminal's to make a signal of.
    screen.type_keys(b"echo slee''ping; sleep 1000\r");
    screen.wait_for("sleeping");
    screen.type_keys(b"\x03");
    screen.type_keys(b"echo in''terrupted; exit 6\r");
    screen.wait_for("interrupted");
    assert_eq!(screen.end(), Some(6));
}

fn others_can_be_executed_beside_the_first(house: &mut House) {
    house.detach("job", &["-e", "MODE=first"], &["sleep", "1000"]);
    let ended = house.exec(&[], &["sh", "-c", "echo out; echo err >&2; exit 5"]).expect(5);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
    house.exec(&[], &["sh", "-c", "kill -TERM $$"]).expect(143);
    house.exec(&[], &["nosuch"]).expect(127);
    house.exec(&[], &["/etc/passwd"]).expect(126);
    let flags = ["-u", "app", "-w", "/home/app", "-e", "MORE=second"];
    let ended = house.exec(&flags, &["sh", "-c", "id -u; pwd; echo $MODE $MORE"]).expect(0);
    assert_eq!(ended.stdout, "1000\n/home/app\nfirst second\n");
    let input = "0123456789abcdef".repeat(10_000);
    let ended = finish(&mut house.node.command(&["exec", "-i", "job", "cat"]), input.as_bytes()).expect(0);
    assert!(ended.stdout == input, "{} bytes of {} came back", ended.stdout.len(), input.len());
    let mut screen = house.screen(&["exec", "-it", "job", "sh"]);
    screen.wait_for("# ");
    screen.type_keys(b"stty size; exit 2\r");
    screen.wait_for("31 97");
    assert_eq!(screen.end(), Some(2));
    thread::scope(|scope| {
        for number in 0..8 {
            let house = &*house;
            scope.spawn(move || {
                let script = format!("head -c 200000 /dev/zero; exit {number}");
                assert_eq!(house.exec(&[], &["sh", "-c", &script]).expect(number).stdout.len(), 200_000);
            });
        }
    });
    house.exec(&[], &["pidof", "sleep"]).expect(0);
    house.node.run(&["rm", "-f", "job"]).expect(0);
    house.exec(&[], &["true"]).expect(125);
}

fn it_ends_when_asked_and_is_killed_when_deaf(house: &mut House) {
    let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
    house.detach("job", &[], &["sh", "-c", script]);
    house.wait_for_log("job", "up\n");
    let mut following = house.node.command(&["logs", "-f", "job"]);
    let follower = thread::spawn(move || finish(&mut following, b""));
    house.node.run(&["stop", "job"]).expect(0);
    assert_eq!(follower.join().unwrap().expect(0).stdout, "up\nbye\n");
    house.node.run(&["wait", "job"]).expect(3);
    house.detach("deaf", &[], &["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"]);
    house.wait_for_log("deaf", "up\n");
    house.node.run(&["stop", "-t", "1", "deaf"]).expect(0);
    house.node.run(&["wait", "deaf"]).expect(137);
}

fn signals_reach_the_first_process(house: &mut House) {
    let script = "trap 'echo hup' HUP; trap 'exit 5' USR1; echo up; while :; do sleep 0.05; done";
    house.detach("job", &[], &["sh", "-c", script]);
    house.wait_for_log("job", "up\n");
    house.node.run(&["kill", "-s", "HUP", "job"]).expect(0);
    house.wait_for_log("job", "hup\n");
    house.node.run(&["kill", "-s", "USR1", "job"]).expect(0);
    house.node.run(&["wait", "job"]).expect(5);
}

fn it_stands_still_when_paused(house: &mut House) {
    house.detach("job", &[], &["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"]);
    house.wait_for_log("job", "3\n");
    house.node.run(&["pause", "job"]).expect(0);
    let frozen = house.logs("job");
    let refused = house.exec(&[], &["true"]).expect(125);
    assert!(refused.stderr.contains("is paused"), "{refused:?}");
    assert_eq!(house.logs("job"), frozen);
    house.node.run(&["resume", "job"]).expect(0);
    wait_until(SOON, || (house.logs("job").len() > frozen.len()).then_some(())).expect("it went on");
    house.exec(&[], &["true"]).expect(0);
    let looks = house.node.run(&["stats", "job", "--no-stream", "--json"]).expect(0).json();
    assert!(looks[0]["memory_bytes"].as_u64() > Some(0), "{looks:#}");
}

fn a_published_port_answers(house: &mut House) {
    let address = free_address();
    let publish = format!("{}:80", address.port());
    let script = "mkdir /www; echo hello from inside > /www/index.html; exec httpd -f -p 80 -h /www";
    house.detach("job", &["-p", &publish], &["sh", "-c", script]);
    let answers = || get(address, "/").filter(|answer| answer.contains("hello from inside"));
    assert!(wait_until(SOON, answers).is_some(), "no answer: {:#}", house.node.inspect("job"));
    // Its own address is the one that the node knows, and its gateway answers.
    let shown = house.node.inspect("job")["address"].as_str().unwrap().to_owned();
    let addresses = house.exec(&[], &["ip", "-o", "address"]).expect(0).stdout;
    assert!(addresses.contains(&shown), "{shown} is not in {addresses}");
    house.exec(&[], &["sh", "-c", "ip route | grep -q ^default"]).expect(0);
}

fn it_writes_only_where_it_may(house: &mut House) {
    let script = "touch /x 2>/dev/null || echo closed; touch /in/x && echo open; df -k /in | tail -1 | awk '{print $2}'; \
                  touch /tmp/x 2>/dev/null || echo closed";
    let flags = ["--rm", "--read-only", "--tmpfs", "/in:size=8MiB"];
    let ended = house.run(&flags, &["sh", "-c", script]).expect(0);
    assert_eq!(ended.stdout, "closed\nopen\n8192\nclosed\n", "{ended:?}");
}

fn too_much_memory_is_its_end_and_is_told(house: &mut House) {
    let script = "x=0123456789abcdef; while :; do x=$x$x; done";
    house.detach("hog", &["--memory", "128MiB"], &["sh", "-c", script]);
    house.node.run(&["wait", "hog"]).expect(137);
    let hog = house.node.inspect("hog");
    assert_eq!((&hog["exit_code"], &hog["out_of_memory"]), (&137.into(), &true.into()), "{hog:#}");
}

fn it_is_started_again_with_its_files(house: &mut House) {
    let script = "echo run; echo x >> /count; [ $(wc -l < /count) -lt 2 ] && exit 7; hostname -i; exit 3";
    house.detach("job", &["--restart", "on-failure:1"], &["sh", "-c", script]);
    let is_over = || Some(house.node.inspect("job")).filter(|job| job["status"] == "stopped");
    let job = wait_until(SOON, is_over).expect("it ended for good");
    assert_eq!((&job["exit_code"], &job["restarts"]), (&3.into(), &1.into()), "{job:#}");
    assert_eq!(house.logs("job").lines().filter(|line| *line == "run").count(), 2);
}

fn it_lives_on_without_the_agent(house: &mut House) {
    let script = "echo up; while [ ! -e /go ]; do sleep 0.05; done; echo going; exit 9";
    house.detach("stays", &[], &["sh", "-c", script]);
    house.detach("ends", &[], &["sh", "-c", "echo short; sleep 0.5; exit 4"]);
    let [stays, ends] = ["stays", "ends"].map(|name| house.node.inspect(name)["pid"].clone());
    house.node.kill_agent();
    let is_over = || (!Path::new(&format!("/proc/{ends}")).exists()).then_some(());
    assert!(wait_until(SOON, is_over).is_some(), "what should end goes on");
    house.node.start_agent();
    house.node.run(&["wait", "ends"]).expect(4);
    assert_eq!(house.logs("ends"), "short\n");
    let shown = house.node.inspect("stays");
    assert_eq!((&shown["status"], &shown["pid"]), (&"running".into(), &stays));
    house.node.run(&["exec", "stays", "touch", "/go"]).expect(0);
    house.node.run(&["wait", "stays"]).expect(9);
    assert_eq!(house.logs("stays"), "up\ngoing\n");
}

fn a_killed_shim_takes_all_of_it_along(house: &mut House) {
    house.detach("job", &[], &["sh", "-c", "sleep 1000 & wait"]);
    house.node.wait_for_status("job", "running");
    let pid = house.node.inspect("job")["pid"].as_i64().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    house.node.wait_for_status("job", "lost");
    assert_eq!(house.node.inspect("job")["reason_code"], "shim_vanished");
    // That nothing of it is left is looked at when the house is closed.
}

fn tenants_do_not_reach_each_other(house: &mut House) {
    let serve = ["sh", "-c", "while :; do echo hello | nc -l -p 99; done"];
    house.detach("ours", &["--tenant", "one"], &serve);
    house.detach("theirs", &["--tenant", "two"], &serve);
    house.detach("job", &["--tenant", "one"], &["sleep", "1000"]);
    let knock = |name: &str| {
        let address = house.node.inspect(name)["address"].as_str().unwrap().to_owned();
        house.exec(&[], &["sh", "-c", &format!("nc -w 2 {address} 99 </dev/null")])
    };
    let is_reached = || (knock("ours").stdout == "hello\n").then_some(());
    assert!(wait_until(SOON, is_reached).is_some(), "one's own tenant can't be reached: {:?}", knock("ours"));
    assert_eq!(knock("theirs").stdout, "", "another tenant was reached");
}

fn it_is_kept_if_it_is_a_machine(house: &mut House) {
    house.detach("job", &[], &["sleep", "1000"]);
    let kept = house.node.run(&["snapshot", "job", "ready"]);
    if house.is_container() {
        assert!(kept.expect(6).stderr.contains("not for containers"), "a container was kept");
    } else {
        kept.expect(0);
    }
    house.exec(&[], &["true"]).expect(0);
}
