//! Who a process is and where it runs: user, groups, home, working directory, host name, environment.

use std::fs;

use hypercore_fixtures::skip_without_root;
use hypercore_shim::report::FailureCode;

use super::{Machine, machine::request};

const WHO: &str = "id -u; id -g; id -G; echo $HOME; pwd";

#[test]
fn a_container_runs_as_whom_and_where_it_was_told() {
    if skip_without_root("a_container_runs_as_whom_and_where_it_was_told") {
        return;
    }
    for (user, workdir, expected) in [
        (None, None, "0\n0\n0\n/root\n/\n"),
        (Some("app"), Some("/home/app"), "1000\n1000\n1000 50\n/home/app\n/home/app\n"),
        (Some("1000:60"), Some("/new/deep"), "1000\n60\n60\n/home/app\n/new/deep\n"),
        (Some("4242:logs"), None, "4242\n60\n60\n/\n/\n"),
    ] {
        let mut machine = Machine::shell(WHO);
        machine.spec.user = user.map(str::to_owned);
        machine.spec.workdir = workdir.map(str::to_owned);
        let ended = machine.run();
        assert_eq!(ended.stdout, expected, "{user:?} {}", ended.stderr);
    }
}

#[test]
fn a_new_working_directory_belongs_to_the_user() {
    if skip_without_root("a_new_working_directory_belongs_to_the_user") {
        return;
    }
    let mut machine = Machine::shell("stat -c %u:%g /srv/app /srv; touch /srv/app/x && echo written");
    machine.spec.user = Some("app".into());
    machine.spec.workdir = Some("/srv/app".into());
    assert_eq!(machine.run().stdout, "1000:1000\n0:0\nwritten\n");
}

#[test]
fn names_and_environment_are_as_asked() {
    if skip_without_root("names_and_environment_are_as_asked") {
        return;
    }
    let mut machine = Machine::shell("hostname; env | sort");
    machine.spec.name = Some("front".parse().unwrap());
    machine.spec.env.insert("KEY".into(), "a value = with signs".into());
    fs::write(machine.bundle().join("hosts"), "10.0.0.1 front\n").unwrap();
    let ended = machine.run();
    let expected = "front\nHOME=/root\nHOSTNAME=front\nKEY=a value = with signs\n\
                    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
                    PWD=/\nSHLVL=1\n";
    assert_eq!(ended.stdout, expected, "{}", ended.stderr);
}

#[test]
fn hosts_files_of_the_workload_cover_those_of_the_image() {
    if skip_without_root("hosts_files_of_the_workload_cover_those_of_the_image") {
        return;
    }
    let machine = Machine::shell("cat /etc/hosts /etc/resolv.conf");
    fs::write(machine.layers[0].join("etc/hosts"), "the image's\n").unwrap();
    fs::write(machine.bundle().join("hosts"), "the workload's\n").unwrap();
    fs::write(machine.bundle().join("resolv.conf"), "nameserver 10.0.0.1\n").unwrap();
    assert_eq!(machine.run().stdout, "the workload's\nnameserver 10.0.0.1\n");
    assert_eq!(fs::read_to_string(machine.layers[0].join("etc/hosts")).unwrap(), "the image's\n");
}

#[test]
fn an_exec_is_whom_and_where_it_asks_to_be() {
    if skip_without_root("an_exec_is_whom_and_where_it_asks_to_be") {
        return;
    }
    let machine = Machine::shell("sleep 100");
    let started = machine.create().unwrap();
    let mut ask = request(&["sh", "-c", &format!("{WHO}; echo $KEY $PATH")]);
    let default = machine.exec_request(&ask, None).unwrap().wait();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(default.stdout, format!("0\n0\n0\n/root\n/\n{path}\n"));

    ask.user = Some("app".into());
    ask.workdir = Some("/tmp".into());
    ask.env = vec!["KEY=value".into(), "PATH=/bin".into()];
    let asked = machine.exec_request(&ask, None).unwrap().wait();
    assert_eq!(asked.stdout, "1000\n1000\n1000 50\n/home/app\n/tmp\nvalue /bin\n");

    ask.user = Some("nobody-here".into());
    let failure = machine.exec_request(&ask, None).err().unwrap();
    assert_eq!(failure.code, FailureCode::NoSuchUser, "{failure}");
    machine.delete();
    started.wait();
}
