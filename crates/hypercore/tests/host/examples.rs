//! Every example of every help text, run as it stands: a line that doesn't work fails here.
//!
//! The lines are run by a shell in a scratch directory, against a node that has the images, workloads and files that they
//! speak of. `sudo` is a script that runs what follows. Lines that go on for ever are interrupted once they have begun;
//! lines that need keys are typed on a terminal. What the machine itself is needed for is listed with its reason.

mod help;
mod scene;

use hypercore_fixtures::skip_without_root;

use help::Example;
use scene::Scene;

/// How a line of an example is run, and when it counts as right.
enum How {
    /// To its end, which must be a success.
    ToItsEnd,
    /// Until it has begun; then it is interrupted.
    Interrupted,
    /// On a terminal: what is typed once this is shown.
    Typed { shown: &'static str, keys: &'static [u8] },
    /// Not at all, and why not.
    Not(&'static str),
}

/// What is typed into a shell to leave it.
const LEAVE_SHELL: How = How::Typed { shown: "# ", keys: b"exit\r" };
/// ctrl-p ctrl-q.
const DETACH: &[u8] = b"\x10\x11";

fn how(example: &Example) -> How {
    let line = example.line.as_str();
    let is = |beginning: &str| line == beginning || line.starts_with(&format!("{beginning} "));
    match line {
        _ if is("sudo hypercore up") || line == "sudo hypercore cluster" || line == "hypercore up" => {
            How::Not(
                "a second node on the test's machine would take the first one's names: tests/host starts its own",
            )
        }
        _ if line.contains("systemctl") || is("sudo hypercore down") => {
            How::Not("it ends the machine's own node; the package's test does that")
        }
        _ if line.contains("doctor --fix") => How::Not("it changes the machine that the tests run on"),
        _ if line.contains("> /etc/") => How::Not("it writes the machine's own configuration"),
        _ if is("hypercore completion") => How::Not("it writes where the machine's shells look"),
        _ if is("hypercore image pull") || is("hypercore image verify") || line.contains("image log") => {
            How::Not("it speaks with a registry elsewhere: tests/host/images has one of its own")
        }
        _ if ["snapshot", "snapshots rm", "restore", "fork"]
            .iter()
            .any(|word| is(&format!("hypercore {word}")))
            || line == "hypercore port agent-1" =>
        {
            How::Not("it needs a microVM that runs: tests/host/snapshots boots its own")
        }
        _ if is("hypercore run --rm -it") || is("hypercore exec -it") => LEAVE_SHELL,
        "hypercore attach web" | "hypercore cluster attach --id web" => {
            How::Typed { shown: "", keys: DETACH }
        }
        "hypercore attach --no-stdin web"
        | "hypercore events"
        | "hypercore stats"
        | "hypercore stats web db" => How::Interrupted,
        _ if line.starts_with("hypercore logs -f") || line.ends_with(" -f") => How::Interrupted,
        _ if line.starts_with("hypercore events") && !line.contains("--until") => How::Interrupted,
        _ => How::ToItsEnd,
    }
}

#[test]
fn every_example_of_every_help_text_works() {
    if skip_without_root("every_example_of_every_help_text_works") {
        return;
    }
    let scene = Scene::set();
    let mut wrong = Vec::new();
    let mut ran = 0;
    for example in help::examples() {
        scene.restore(&example.line);
        let judged = match how(&example) {
            How::ToItsEnd => scene.run(&example.line),
            How::Interrupted => scene.interrupt(&example.line),
            How::Typed { shown, keys } => scene.type_into(&example.line, shown, keys),
            How::Not(why) => {
                eprintln!("not run: {}: {why}", example.line);
                continue;
            }
        };
        ran += 1;
        if let Err(why) = judged {
            wrong.push(format!("{}: {}\n    {why}", example.command, example.line));
        }
    }
    assert!(ran > 60, "only {ran} examples were found: is the help read rightly?");
    assert!(wrong.is_empty(), "{} of {ran} examples are wrong:\n{}", wrong.len(), wrong.join("\n"));
    scene.finish();
}

#[test]
fn a_wrong_example_is_found_out() {
    if skip_without_root("a_wrong_example_is_found_out") {
        return;
    }
    let scene = Scene::set();
    scene.restore("");
    assert!(scene.run("hypercore ps --no-such-flag").is_err());
    assert!(scene.run("hypercore inspect nosuch").is_err());
    assert!(scene.interrupt("hypercore logs -f nosuch").is_err());
    assert!(scene.run("hypercore ps").is_ok());
    scene.finish();
}
