//! What needs root and the real kernel: networks and cgroups. Each test says so and returns when it isn't root.

mod network;
