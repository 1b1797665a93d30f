//! What needs root and the real kernel: bundles, networks, cgroups and images. Each test says so and returns when it isn't root.

mod bundle;
mod cgroup;
mod images;
mod network;
mod skew;
