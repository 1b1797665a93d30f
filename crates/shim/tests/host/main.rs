//! What needs root and real processes. Each test says so and returns when it isn't root.

mod engine;
mod fakes;
mod probe;
mod sandbox;
mod snapshot;
mod v2;
mod vsock;
