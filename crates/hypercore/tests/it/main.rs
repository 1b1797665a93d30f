//! The program as its users and their scripts meet it: run as a process, against an agent that answers from a script.
//! The agent here is a fake on purpose: what is tested is arguments, output and exit codes. The real agent is tested
//! in `tests/host`.

mod config;
mod end;
mod fake;
mod help;
mod list;
mod node;
mod program;
mod run;
mod session;
mod terminal;
mod usage;
