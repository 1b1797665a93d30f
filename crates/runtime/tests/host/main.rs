//! What needs root and the real kernel: networks, cgroups and images. Each test says so and returns when it isn't root.

mod cgroup;
mod images;
mod network;
