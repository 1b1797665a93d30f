//! Signed payloads in Red Hat's "simple signing" form, as cosign writes them (sigstore/cosign, SIGNATURE_SPEC.md).
//! It refuses payloads that say anything else than that this very digest is a signed container image.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hypercore_model::Digest;
use serde::Deserialize;
use serde_json::Value;

use super::{Signer, VerifyKey};
use hypercore_copy::shown::shown;

/// What a payload says it is. Attestations are signed with the same keys.
const TYPE: &str = "cosign container image signature";

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
    optional: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    r#type: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

/// Who signed this payload, when the payload is about that digest.
pub(super) fn signer(payload: &[u8], signature: &str, signed: &Digest, keys: &[VerifyKey]) -> Option<Signer> {
    let signature = STANDARD.decode(signature.trim()).ok()?;
    // What nobody trusted signed isn't even parsed.
    let key = keys.iter().find(|key| key.has_signed(payload, &signature))?;
    let Payload { critical, optional } = serde_json::from_slice(payload).ok()?;
    let is_meant = critical.r#type == TYPE && critical.image.docker_manifest_digest == signed.to_string();
    let text = |(name, value): (String, Value)| Some((shown(&name), shown(value.as_str()?)));
    let annotations = optional.unwrap_or_default().into_iter().filter_map(text).collect();
    is_meant.then(|| Signer { key: key.id().to_owned(), annotations })
}

#[cfg(test)]
mod tests {
    use hypercore_fixtures::cosign;

    use super::*;

    fn public(signer: &cosign::Signer) -> VerifyKey {
        VerifyKey::from_pem(&signer.public_pem()).unwrap()
    }

    #[test]
    fn only_a_payload_about_this_digest_counts() {
        let signer_key = cosign::Signer::p256();
        let keys = [public(&cosign::Signer::ed25519()), public(&signer_key)];
        let digest = Digest::from_sha256([7; 32]);
        let payload = |kind: &str, digest: &Digest| {
            format!(
                r#"{{"critical":{{"identity":{{"docker-reference":"reg.example/app"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{kind}"}},"optional":null}}"#
            )
        };
        let found = |text: &str| {
            signer(text.as_bytes(), &signer_key.sign(text.as_bytes()), &digest, &keys).map(|it| it.key)
        };
        assert_eq!(found(&payload(TYPE, &digest)), Some(keys[1].id().to_owned()));
        assert_eq!(found(&payload(TYPE, &Digest::from_sha256([8; 32]))), None);
        assert_eq!(found(&payload("atomic container signature", &digest)), None);
        assert_eq!(found("{}"), None);
        let honest = payload(TYPE, &digest);
        for signature in ["", "!", &cosign::Signer::p256().sign(honest.as_bytes())] {
            assert_eq!(signer(honest.as_bytes(), signature, &digest, &keys), None, "{signature}");
        }
    }
}
