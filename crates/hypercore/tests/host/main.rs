//! The whole house through its front door: the built programs, a real registry, real containers. Needs root; each
//! test says so and returns when it isn't root. Each has a node of its own, and checks that nothing of it is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod behaviour;
mod contact;
mod copy;
mod cycles;
mod daily;
mod day;
mod down;
mod examples;
mod full_disk;
mod images;
mod ingress;
mod lifetime;
mod limits;
mod microvm;
mod mistakes;
mod node;
mod output;
mod pause;
#[path = "../it/program.rs"]
mod program;
mod protocol;
mod remote;
mod restart;
mod restarts;
#[path = "../it/screen.rs"]
mod screen;
mod service;
mod snapshots;
mod terminal;
mod traces;
mod user_namespace;
mod volumes;
