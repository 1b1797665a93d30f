//! The world that the examples speak of: images, workloads, files, and the programs beside `hypercore`.

use std::{
    cell::Cell,
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hypercore_fixtures::{ImageBuilder, wait_until};
use nix::{
    pty::{Winsize, openpty},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{
    node::Node,
    program::{finish, isolated},
};

/// Longest time that a line may take.
const LINE_TIME_MAX: Duration = Duration::from_secs(60);
/// Time in which a line that goes on for ever must not have failed.
const BEGUN: Duration = Duration::from_millis(700);

/// Images under the names that the examples use.
const IMAGES: [&str; 7] = ["nginx", "nginx:1.27", "postgres:17", "busybox", "web:1", "job:1", "app:1"];
/// Workloads that run, under the names that the examples use.
const RUNNING: [&str; 2] = ["web", "db"];
/// What only looks: the scene is as it was afterwards, and any scene will do.
const LOOKING: [&str; 10] =
    ["ps", "inspect", "logs", "port", "stats", "events", "config", "version", "node", "image ls"];

/// A node with everything that the examples speak of.
pub(super) struct Scene {
    node: Node,
    /// Nothing was changed since everything was brought back.
    is_whole: Cell<bool>,
}

impl Scene {
    /// Starts the node and makes what doesn't change.
    pub(super) fn set() -> Self {
        let node = Node::start();
        // It has no command of its own: the one that the examples speak of has a shell.
        node.run(&["image", "rm", "busybox"]).expect(0);
        let programs = node.path("bin");
        fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hypercore"), programs.join("hypercore")).unwrap();
        write_program(&programs.join("sudo"), "#!/bin/sh\nexec \"$@\"\n");
        let image = ImageBuilder::busybox().unwrap().build();
        image.write_layout(&node.path("layout"), "app:1").unwrap();
        image.write_archive(&node.path("web.tar"), "app:1").unwrap();
        Self { node, is_whole: Cell::new(false) }
    }

    /// Brings everything back to where this line begins.
    pub(super) fn restore(&self, line: &str) {
        let looks = LOOKING.iter().any(|word| line.starts_with(&format!("hypercore {word}")));
        // What is at the other end of a pipe may do anything.
        let looks = looks && !line.contains('|');
        if self.is_whole.replace(looks) && looks {
            return;
        }
        self.restore_files();
        let ids = self.node.run(&["ps", "-aq"]).expect(0).stdout;
        let ids: Vec<_> = ids.lines().collect();
        if !ids.is_empty() {
            self.node.run(&[&["rm", "-f"], ids.as_slice()].concat()).expect(0);
        }
        self.restore_images();
        self.restore_names(line);
        // What is about to be made isn't there yet, and images can only go when nothing is made of them.
        let is_made = |name: &str| line.contains(&format!("--name {name}"));
        let is_empty = line.contains("image rm") || line.contains("image prune");
        for name in RUNNING.into_iter().filter(|name| !is_made(name) && !is_empty) {
            let serve = "mkdir -p /srv; echo up; trap 'exit 0' TERM; while :; do sleep 0.1; done";
            let flags = ["--name", name, "--label", "tier=front", "-it", "-p", "80"];
            self.node.detach(&[&flags[..], &["busybox", "--", "sh", "-c", serve]].concat());
            let is_up = || self.node.run(&["logs", name]).stdout.contains("up").then_some(());
            wait_until(LINE_TIME_MAX, is_up).unwrap();
            if line.starts_with("hypercore resume") {
                self.node.run(&["pause", name]).expect(0);
            }
            if line == "hypercore rm web" {
                self.node.run(&["stop", name]).expect(0);
            }
        }
        if !is_empty {
            self.node.detach(&["--name", "job", "busybox", "--", "true"]);
            self.node.run(&["wait", "job"]).expect(0);
        }
    }

    fn restore_files(&self) {
        let directory = self.directory();
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("site")).unwrap();
        for (name, text) in [
            ("env", "MODE=file\n"),
            ("index.html", "hello\n"),
            ("site/page.html", "page\n"),
            ("hypercore.toml", "[logging]\nlevel = \"info\"\n"),
        ] {
            fs::write(directory.join(name), text).unwrap();
        }
        let mut copy = Command::new("cp");
        copy.arg("-a").args(["layout", "web.tar"].map(|name| self.node.path(name))).arg(&directory);
        assert!(copy.status().unwrap().success());
    }

    fn restore_images(&self) {
        let there = self.node.run(&["image", "ls", "--json"]).expect(0).json();
        let is_there = |reference: &str| {
            let tagged =
                if reference.contains(':') { reference.to_owned() } else { format!("{reference}:latest") };
            let mut references =
                there.as_array().unwrap().iter().filter_map(|image| image["reference"].as_str());
            references.any(|found| found.ends_with(&format!("/{tagged}")))
        };
        let archive = self.node.path("image.tar");
        for reference in IMAGES.into_iter().filter(|reference| !is_there(reference)) {
            let image = ImageBuilder::busybox().unwrap().cmd(["sh"]).build();
            image.write_archive(&archive, reference).unwrap();
            self.node.run(&["image", "import", archive.to_str().unwrap(), "--as", reference]).expect(0);
        }
    }

    /// Volumes and tokens, but for the one that the line makes.
    fn restore_names(&self, line: &str) {
        for name in ["data", "cache"] {
            let _ = self.node.run(&["volume", "rm", name]);
        }
        if !line.contains("volume create") {
            self.node.run(&["volume", "create", "data"]).expect(0);
        }
        for name in ["laptop", "ci"] {
            let _ = self.node.run(&["token", "revoke", name]);
            if !line.contains(&format!("--name {name}")) {
                self.node.run(&["token", "create", "--name", name, "--scope", "read"]).expect(0);
            }
        }
    }

    /// Where the lines are run.
    fn directory(&self) -> std::path::PathBuf {
        self.node.path("here")
    }

    /// Runs a line to its end.
    pub(super) fn run(&self, line: &str) -> Result<(), String> {
        let ended = finish(&mut self.shell(line), b"");
        if ended.code == Some(0) { Ok(()) } else { Err(format!("{ended:?}")) }
    }

    /// Runs a line that goes on, and interrupts it.
    pub(super) fn interrupt(&self, line: &str) -> Result<(), String> {
        let mut command = self.shell(line);
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let mut has_begun = || child.try_wait().unwrap().is_some() || begun.elapsed() > BEGUN;
        wait_until(LINE_TIME_MAX, || has_begun().then_some(()));
        let group = Pid::from_raw(child.id().try_into().unwrap());
        // One that has ended already is judged by how.
        let _ = killpg(group, Signal::SIGINT);
        judge(&mut child, &[0, 130])
    }

    /// Runs a line on a terminal and types.
    pub(super) fn type_into(&self, line: &str, shown: &str, keys: &[u8]) -> Result<(), String> {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(&size, None).unwrap();
        let end = || Stdio::from(terminal.slave.try_clone().unwrap());
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "sh", "-c", line]);
        let mut child =
            self.prepare(isolated(command)).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let master = fs::File::from(terminal.master);
        let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let (mut reader, writer) = (master.try_clone().unwrap(), std::sync::Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(len @ 1..) = reader.read(&mut buffer) {
                writer.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..len]));
            }
        });
        let is_raw = || {
            let settings = nix::sys::termios::tcgetattr(&terminal.slave).unwrap();
            !settings.local_flags.contains(nix::sys::termios::LocalFlags::ICANON)
        };
        wait_until(LINE_TIME_MAX, || {
            let is_ready = is_raw() && seen.lock().unwrap().contains(shown);
            (is_ready || child.try_wait().unwrap().is_some()).then_some(())
        });
        (&master).write_all(keys).unwrap();
        let judged = judge(&mut child, &[0]);
        judged.map_err(|why| format!("{why}; shown: {:?}", seen.lock().unwrap()))
    }

    /// Ends the node.
    pub(super) fn finish(self) {
        self.node.finish();
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("set -o pipefail; {line}")]);
        self.prepare(isolated(command))
    }

    fn prepare(&self, mut command: Command) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let socket = self.node.path("run/api.sock");
        command
            .current_dir(self.directory())
            .env("PATH", format!("{}:{path}", self.node.path("bin").display()))
            .env("HYPERCORE_API", format!("unix:{}", socket.display()));
        command
    }
}

fn judge(child: &mut Child, codes: &[i32]) -> Result<(), String> {
    let status = wait_until(LINE_TIME_MAX, || child.try_wait().unwrap());
    let _ = child.kill();
    let mut told = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut told);
    }
    let _ = child.wait();
    match status {
        None => Err("it did not end".to_owned()),
        // A program that a signal ended has no code.
        Some(status)
            if status.code().is_none_or(|code| codes.contains(&code)) && !told.contains("error:") =>
        {
            Ok(())
        }
        Some(status) => Err(format!("{status}: {told}")),
    }
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
