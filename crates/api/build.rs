//! Turns the proto files into Rust with `protox`, a protobuf compiler in Rust: no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["hypercore/v1/hypercore.proto"], ["proto"])?;
    let descriptor_path = PathBuf::from(env::var("OUT_DIR")?).join("hypercore.v1.bin");
    fs::write(descriptor_path, descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
