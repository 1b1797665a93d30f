//! Sigstore bundles with an in-toto statement in a DSSE envelope, which newer releases of cosign sign images with
//! (sigstore/cosign, BUNDLE_SPEC.md; secure-systems-lab/dsse, protocol.md; in-toto, Statement v1).
//! It refuses statements of other kinds: the same key may also sign that a scan found holes in this very image.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hypercore_model::Digest;
use serde::Deserialize;

use super::{Signer, VerifyKey};

/// What the envelope says is in it.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Kinds of statements, by version.
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// What a statement says when it signs an image, and not something about it.
const PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";
/// Most signatures of one envelope.
const SIGNATURES_COUNT_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

/// Who signed this bundle's statement, when the statement is about that digest.
pub(super) fn signer(bundle: &[u8], signed: &Digest, keys: &[VerifyKey]) -> Option<Signer> {
    let Bundle { dsse_envelope: envelope } = serde_json::from_slice(bundle).ok()?;
    let payload = STANDARD.decode(&envelope.payload).ok()?;
    let message = pre_authentication_encoding(&envelope.payload_type, &payload);
    let signatures = envelope.signatures.iter().take(SIGNATURES_COUNT_MAX);
    let key = signatures
        .filter_map(|signature| STANDARD.decode(&signature.sig).ok())
        .find_map(|signature| keys.iter().find(|key| key.has_signed(&message, &signature)))?;
    let statement: Statement = serde_json::from_slice(&payload).ok()?;
    let hex = signed.hex().to_string();
    let is_about = |subject: &Subject| subject.digest.get("sha256") == Some(&hex);
    let is_meant = envelope.payload_type == PAYLOAD_TYPE
        && STATEMENT_TYPES.contains(&statement.kind.as_str())
        && statement.predicate_type == PREDICATE_TYPE
        && statement.subject.iter().any(is_about);
    is_meant.then(|| Signer { key: key.id().to_owned(), annotations: BTreeMap::new() })
}

/// What is really signed (dsse, protocol.md, "Signature Definition"): lengths keep type and payload apart.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use hypercore_fixtures::cosign;
    use serde_json::{Value, json};

    use super::*;

    fn public(signer: &cosign::Signer) -> VerifyKey {
        VerifyKey::from_pem(&signer.public_pem()).unwrap()
    }

    #[test]
    fn the_encoding_is_the_one_of_the_specification() {
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn only_a_statement_that_signs_this_digest_counts() {
        let signer_key = cosign::Signer::p256();
        let keys = [public(&signer_key)];
        let digest = Digest::from_sha256([7; 32]);
        let statement = json!({
            "_type": STATEMENT_TYPES[0],
            "subject": [{ "digest": { "sha256": digest.hex().to_string() } }],
            "predicateType": PREDICATE_TYPE,
            "predicate": {},
        });
        let found = |change: &dyn Fn(&mut Value), payload_type: &str, by: &cosign::Signer| {
            let mut statement = statement.clone();
            change(&mut statement);
            let payload = statement.to_string().into_bytes();
            let sig = by.sign(&pre_authentication_encoding(payload_type, &payload));
            let bundle = json!({
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": { "publicKey": { "hint": "" } },
                "dsseEnvelope": {
                    "payload": STANDARD.encode(&payload),
                    "payloadType": payload_type,
                    "signatures": [{ "sig": sig }],
                },
            });
            signer(bundle.to_string().as_bytes(), &digest, &keys).is_some()
        };
        let same = |_: &mut Value| {};
        assert!(found(&same, PAYLOAD_TYPE, &signer_key));
        assert!(!found(&same, PAYLOAD_TYPE, &cosign::Signer::p256()));
        assert!(!found(&same, "text/plain", &signer_key));
        assert!(!found(
            &|it| it["predicateType"] = json!("https://cosign.sigstore.dev/attestation/vuln/v1"),
            PAYLOAD_TYPE,
            &signer_key
        ));
        assert!(!found(&|it| it["subject"][0]["digest"]["sha256"] = json!("00"), PAYLOAD_TYPE, &signer_key));
        assert!(!found(&|it| it["_type"] = json!("x"), PAYLOAD_TYPE, &signer_key));
    }
}
