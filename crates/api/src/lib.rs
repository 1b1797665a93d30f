//! The contracts of Hypercore's gRPC API: generated types, service traits, and the client.
pub mod v1;
