//! Signatures as cosign leaves them in a registry: found in every form, and only the right ones count.

use hypercore_fixtures::{
    Blob, ImageBuilder, OciImage, Registry,
    cosign::{Signature, Signer},
    skip_without_root,
};
use hypercore_runtime::image::{
    PullError, RegistrySettings, SignatureError, SignatureForm, TransferError, Verified, VerifyKey,
};

use super::{
    Store, cause, parsed,
    server::{Answer, Server},
    two_layers,
};

fn key(signer: &Signer) -> VerifyKey {
    VerifyKey::from_pem(&signer.public_pem()).unwrap()
}

fn demanding(keys: &[&Signer]) -> RegistrySettings {
    RegistrySettings {
        verify_keys: keys.iter().map(|signer| key(signer)).collect(),
        ..RegistrySettings::default()
    }
}

async fn verify(reference: &str, signer: &Signer) -> Result<Verified, PullError> {
    Store::new().images.verify(&parsed(reference), &[key(signer)], &RegistrySettings::default()).await
}

fn why(error: PullError, reference: &str) -> SignatureError {
    match cause(error, reference) {
        TransferError::NotVerified(why) => why,
        other => panic!("{other:?}"),
    }
}

/// Pushes a signature under the tag that it is looked for.
fn push_signature(registry: &Registry, signature: &Signature, digest: &str) {
    let tag = Signature::tag(digest);
    registry.push_document(&signature.manifest, &signature.content, "app", &tag).unwrap();
}

/// Pushes signatures with the list that stands for the registry's own.
fn push_referrers(registry: &Registry, signatures: &[&Signature], digest: &str) {
    for signature in signatures {
        let by_digest = &signature.manifest.digest;
        registry.push_document(&signature.manifest, &signature.content, "app", by_digest).unwrap();
    }
    let tag = digest.replace(':', "-");
    registry.push_document(&Signature::referrers(signatures), &[], "app", &tag).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_found_in_every_form() {
    let registry = Registry::start().unwrap();
    let (signer, other) = (Signer::p256(), Signer::ed25519());
    for (number, form) in
        [SignatureForm::Tag, SignatureForm::Referrer, SignatureForm::Bundle].into_iter().enumerate()
    {
        let image = ImageBuilder::empty().file("number", number.to_string()).build();
        let reference = registry.push(&image, &format!("app:{number}")).unwrap();
        let digest = image.digest();
        assert_eq!(why(verify(&reference, &signer).await.unwrap_err(), &reference), SignatureError::Unsigned);
        match form {
            SignatureForm::Tag => push_signature(&registry, &signer.signature(digest), digest),
            SignatureForm::Referrer => push_referrers(&registry, &[&signer.signature(digest)], digest),
            SignatureForm::Bundle => {
                let signatures =
                    [other.bundle(digest, Signature::SIGN), signer.bundle(digest, Signature::SIGN)];
                push_referrers(&registry, &[&signatures[0], &signatures[1]], digest);
            }
        }
        let verified = verify(&reference, &signer).await.unwrap();
        assert_eq!((verified.form, verified.digest.to_string()), (form, digest.to_owned()));
        assert_eq!((verified.signed, verified.key.as_str()), (verified.digest, key(&signer).id()));
        let untrusted = why(verify(&reference, &Signer::p256()).await.unwrap_err(), &reference);
        assert!(matches!(untrusted, SignatureError::Untrusted { found: 1.. }), "{untrusted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_referrers_of_its_own_is_asked_for_them() {
    let (signer, image) = (Signer::ed25519(), two_layers());
    let signature = signer.signature(image.digest());
    let registry = Server::serve(&image, |script| {
        let list = Signature::referrers(&[&signature]);
        script.set(&format!("/v2/app/referrers/{}", image.digest()), [Answer::ok(list.bytes)]);
        let manifest = format!("/v2/app/manifests/{}", signature.manifest.digest);
        script.set(&manifest, [Answer::ok(signature.manifest.bytes.clone())]);
        for blob in &signature.content {
            script.set(&format!("/v2/app/blobs/{}", blob.digest), [Answer::ok(blob.bytes.clone())]);
        }
    });
    let verified = verify(&registry.reference(), &signer).await.unwrap();
    assert_eq!(verified.form, SignatureForm::Referrer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_index_vouches_for_the_image_it_names() {
    let registry = Registry::start().unwrap();
    let (signer, image) = (Signer::p256(), two_layers());
    let reference = registry.push_index(&[&image], "app:multi").unwrap();
    let index = OciImage::index(&[&image]).digest;
    push_signature(&registry, &signer.signature(&index), &index);
    let verified = verify(&reference, &signer).await.unwrap();
    assert_eq!(
        (verified.signed.to_string(), verified.digest.to_string()),
        (index, image.digest().to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_for_something_else_counts_nothing() {
    let registry = Registry::start().unwrap();
    let (signer, image) = (Signer::p256(), two_layers());
    let reference = registry.push(&image, "app:1").unwrap();
    let digest = image.digest();
    let other = ImageBuilder::empty().file("other", "").build();
    // The honest signature of another image, put where this one's belongs.
    push_signature(&registry, &signer.signature(other.digest()), digest);
    // The same key says something about this image, which is not that it is signed.
    push_referrers(
        &registry,
        &[&signer.bundle(digest, "https://cosign.sigstore.dev/attestation/vuln/v1")],
        digest,
    );
    let error = why(verify(&reference, &signer).await.unwrap_err(), &reference);
    assert_eq!(error, SignatureError::Untrusted { found: 2 });
    // A payload that was changed after it was signed.
    let mut forged = signer.signature(other.digest());
    let text = String::from_utf8(forged.content[1].bytes.clone()).unwrap().replace(other.digest(), digest);
    let payload = Blob::new(&forged.content[1].media_type.clone(), text.into_bytes());
    let manifest = String::from_utf8(forged.manifest.bytes.clone()).unwrap();
    let manifest = manifest.replace(&forged.content[1].digest, &payload.digest);
    forged.manifest = Blob::new(&forged.manifest.media_type.clone(), manifest.into_bytes());
    forged.content.push(payload);
    push_signature(&registry, &forged, digest);
    assert!(verify(&reference, &signer).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_signatures_are_demanded_nothing_else_comes_in_or_runs() {
    if skip_without_root("where_signatures_are_demanded_nothing_else_comes_in_or_runs") {
        return;
    }
    let (registry, store) = (Registry::start().unwrap(), Store::new());
    let (signer, stranger) = (Signer::p256(), Signer::p256());
    let image = two_layers();
    let reference = registry.push(&image, "app:1").unwrap();
    let settings = demanding(&[&signer]);
    let pull = async |settings: &RegistrySettings| {
        store.images.pull(&parsed(&reference), settings, &|_| {}).await.map(|pulled| pulled.image)
    };
    assert_eq!(why(pull(&settings).await.unwrap_err(), &reference), SignatureError::Unsigned);
    store.assert_nothing_new();
    assert_eq!(store.names("blobs/sha256"), [""; 0], "not even a layer came");

    // What came before the demand doesn't run until it is signed.
    let present = pull(&RegistrySettings::default()).await.unwrap();
    store.images.admit(&present, &RegistrySettings::default()).await.unwrap();
    let refused = store.images.admit(&present, &settings).await.unwrap_err();
    assert_eq!(why(refused, &reference), SignatureError::Unsigned);
    push_signature(&registry, &signer.signature(image.digest()), image.digest());
    store.images.admit(&present, &settings).await.unwrap();
    assert_eq!(store.names("verified"), [present.digest.hex()]);

    // From here on it needs no registry, but still the key.
    drop(registry);
    store.images.admit(&present, &settings).await.unwrap();
    store.images.admit(&present, &demanding(&[&stranger, &signer])).await.unwrap();
    assert!(store.images.admit(&present, &demanding(&[&stranger])).await.is_err());
}
