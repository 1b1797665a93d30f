//! `hypercore image verify`: looks for a signature that a given key made, as `cosign verify --key` does. It asks no
//! transparency log.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use hypercore_api::ErrorKind;
use hypercore_model::ImageReference;
use serde::Serialize;

use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
    view::familiar,
};

const EXAMPLES: &str = "\
Examples:
  hypercore image verify ghcr.io/team/web:1 --key cosign.pub
  hypercore image verify ghcr.io/team/web:1          with the keys of runtime.verify_keys";

/// Largest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Check who signed an image with cosign
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct VerifyArgs {
    /// [REGISTRY/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    reference: ImageReference,
    /// A public key to accept, ECDSA P-256 or Ed25519 in PEM; may be given several times
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
}

/// A signature that holds, for programs.
#[derive(Debug, Serialize)]
struct VerifyView {
    reference: String,
    /// Of the manifest for this machine.
    digest: String,
    signatures: Vec<SignatureView>,
}

#[derive(Debug, Serialize)]
struct SignatureView {
    key: String,
    form: String,
    digest: String,
    annotations: BTreeMap<String, String>,
}

/// Does it.
pub(super) async fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    let keys = args.keys.iter().map(|path| read_key(path)).collect::<Result<Vec<_>, _>>()?;
    let reference = args.reference.to_string();
    let verified = context.connect().await?.image_verify(&reference, keys).await?;
    let signatures = verified.signatures.into_iter().map(|it| SignatureView {
        key: it.key,
        form: it.form,
        digest: it.digest,
        annotations: it.annotations.into_iter().collect(),
    });
    let view = VerifyView { reference, digest: verified.digest, signatures: signatures.collect() };
    if !context.console.is_for_people() {
        return context.console.structured(&view);
    }
    context.console.line(&view.digest)?;
    for signature in &view.signatures {
        let image = familiar(&view.reference);
        context.console.say(&format!("{image}: signed ({}) by the key {}", signature.form, signature.key));
    }
    Ok(Exit::Ok)
}

fn read_key(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) => {
            let message = format!("the key {} can't be read: {error}", path.display());
            Err(Failure::new(ErrorKind::Usage, "key_unreadable", message))
        }
    }
}
