//! The one-shot form for compatibility: one JSON line asks, one JSON line answers.
//! `{"cmd":"ls","args":["-l"],"env":["K=V"]}` -> `{"exit_code":0,"stdout":"","stderr":"","error":""}`.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    sync::Arc,
    thread,
};

use hypercore_wire::message::{Exec, Exit};
use serde::{Deserialize, Serialize};

use crate::{
    execution,
    output::{self, Allowance, Delivery},
    reaper::Ending,
    session::Machine,
};

/// Longest request, in bytes.
const REQUEST_LEN_MAX: u64 = 256 * 1024;
/// Most output of each stream that is answered, in bytes. The rest is read and dropped.
const OUTPUT_LEN_MAX: usize = 1024 * 1024;

#[derive(Debug, Deserialize)]
struct Request {
    cmd: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Answer {
    exit_code: i32,
    stdout: String,
    stderr: String,
    error: String,
}

/// Answers one request, whose opening brace has been read, and hangs up.
pub(crate) fn answer(machine: &Arc<Machine>, mut connection: File) {
    let answer = read(&connection).and_then(|request| run(machine, request)).unwrap_or_else(|error| Answer {
        exit_code: -1,
        error,
        ..Answer::default()
    });
    if let Ok(mut line) = serde_json::to_vec(&answer) {
        line.push(b'\n');
        // A host that hung up doesn't want it.
        let _ = connection.write_all(&line);
    }
}

fn read(connection: &File) -> Result<Request, String> {
    let mut line = vec![b'{'];
    let mut reader = BufReader::new(connection.take(REQUEST_LEN_MAX));
    reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
    serde_json::from_slice(&line).map_err(|error| format!("the request is not understood: {error}"))
}

fn run(machine: &Arc<Machine>, request: Request) -> Result<Answer, String> {
    if !machine.is_prepared() {
        return Err("the machine is not prepared yet".to_owned());
    }
    let _admission = machine.admit().ok_or("too many executions run already")?;
    let argv = [vec![request.cmd], request.args].concat();
    let exec = Exec { argv, env: request.env, cwd: None, user: None, tty: false, stdin: false, size: None };
    let started = execution::spawn(&machine.reaper, &exec).map_err(|fault| fault.message)?;
    let (ending, ends) = (started.ending, started.ends);
    let (stdout, stderr) = (collect(ends.stdout, &ending), collect(ends.stderr, &ending));
    let text = |collected: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&collected.join().unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    let exit_code = match ending.wait() {
        Exit::Code(code) => code.into(),
        Exit::Signal(signal) => 128 + i32::from(signal),
        Exit::OutOfMemory => 137,
    };
    Ok(Answer { exit_code, stdout, stderr, error: String::new() })
}

fn collect(output: Option<std::os::fd::OwnedFd>, ending: &Arc<Ending>) -> thread::JoinHandle<Vec<u8>> {
    let ending = Arc::clone(ending);
    thread::spawn(move || {
        let mut collected = Vec::new();
        let Some(output) = output else { return collected };
        output::pump(output.into(), false, &ending, &Allowance::unlimited(), |piece| {
            let room = OUTPUT_LEN_MAX - collected.len();
            collected.extend_from_slice(&piece[..piece.len().min(room)]);
            Delivery::Done
        });
        collected
    })
}
