//! Generated from `proto/hypercore/v1`: messages, client stubs and server traits of package `hypercore.v1`.
#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    reason = "generated code"
)]

tonic::include_proto!("hypercore.v1");

/// The encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hypercore.v1.bin"));
