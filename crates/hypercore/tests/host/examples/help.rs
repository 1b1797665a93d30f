//! Reads commands and examples out of help texts.

use crate::program::{finish, hypercore};

/// One line of an `Examples:` block, without its comment.
#[derive(Debug)]
pub(super) struct Example {
    /// The command whose help has it.
    pub(super) command: String,
    pub(super) line: String,
}

/// All examples, in the order of the help texts.
pub(super) fn examples() -> Vec<Example> {
    let mut found = Vec::new();
    collect(&[], &mut found);
    found
}

fn collect(command: &[String], found: &mut Vec<Example>) {
    let arguments = command.iter().map(String::as_str).chain(["--help"]);
    let text = finish(hypercore().args(arguments), b"").expect(0).stdout;
    let name = format!("hypercore {}", command.join(" "));
    found.extend(lines(&text).into_iter().map(|line| Example { command: name.trim().to_owned(), line }));
    for subcommand in subcommands(&text) {
        collect(&[command, &[subcommand]].concat(), found);
    }
}

/// The names below `Commands:`.
fn subcommands(text: &str) -> Vec<String> {
    let block =
        text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = block.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The lines below `Examples:`, joined where they go on, their comments cut off.
fn lines(text: &str) -> Vec<String> {
    let block =
        text.lines().skip_while(|line| *line != "Examples:").skip(1).take_while(|line| !line.is_empty());
    let mut joined: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in block {
        // What stands further right than the examples do goes on with the comment above.
        if !goes_on && line.starts_with("      ") {
            continue;
        }
        let line = without_comment(line.trim());
        let (part, continues) = match line.strip_suffix('\\') {
            Some(part) => (part.trim_end(), true),
            None => (line, false),
        };
        match joined.last_mut().filter(|_| goes_on) {
            Some(last) => last.push_str(&format!(" {part}")),
            None => joined.push(part.to_owned()),
        }
        goes_on = continues;
    }
    joined
}

/// A comment stands after at least two blanks.
fn without_comment(line: &str) -> &str {
    line.split_once("  ").map_or(line, |(line, _)| line).trim_end()
}

#[test]
fn comments_go_and_long_lines_are_joined() {
    let text =
        "x\n\nExamples:\n  a b   what it does,\n        at length\n  c \\\n      d     more\n\nafter\n";
    assert_eq!(lines(text), ["a b", "c d"]);
    assert_eq!(
        subcommands("Commands:\n  up     Start\n         it\n  ps     List\n\nOptions:\n  -h\n"),
        ["up", "ps"]
    );
}
