//! The authority against files that are damaged, missing or open to others, and what it signs against those who
//! check it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use hypercore_trust::Identity;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{ServerName, UnixTime},
};

use super::*;

fn node() -> NodeId {
    Identity::from_seed(&[3; 32]).node_id()
}

fn now() -> Timestamp {
    Timestamp::from_unix_ms(1_800_000_000_000)
}

struct Scratch {
    root: tempfile::TempDir,
    directory: Directory,
}

impl Scratch {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(&root.path().join("data"), &root.path().join("run")).unwrap();
        Self { root, directory }
    }

    fn open(&self) -> Result<Authority, AuthorityError> {
        Authority::open(&self.directory, node(), now())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("data").join(name)
    }
}

/// An authority, and the directory it lives in.
pub(super) fn authority() -> (tempfile::TempDir, Authority) {
    let scratch = Scratch::new();
    let authority = scratch.open().unwrap();
    (scratch.root, authority)
}

#[test]
fn an_authority_is_made_once_with_a_key_for_its_owner_alone() {
    let scratch = Scratch::new();
    let first = scratch.open().unwrap().fingerprint();
    assert_eq!(fs::metadata(scratch.path("ca.key")).unwrap().mode() & 0o777, 0o600);
    let certificate = fs::read(scratch.path("ca.pem")).unwrap();
    assert_eq!(scratch.open().unwrap().fingerprint(), first);
    assert_eq!(fs::read(scratch.path("ca.pem")).unwrap(), certificate);
}

#[test]
fn a_lost_certificate_is_made_again_and_a_lost_key_never_is() {
    let scratch = Scratch::new();
    let first = scratch.open().unwrap().fingerprint();
    fs::remove_file(scratch.path("ca.pem")).unwrap();
    assert_eq!(scratch.open().unwrap().fingerprint(), first, "tokens go on being good");
    fs::remove_file(scratch.path("ca.key")).unwrap();
    assert!(matches!(scratch.open(), Err(AuthorityError::KeyMissing { .. })));
    assert!(!scratch.path("ca.key").exists());
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let scratch = Scratch::new();
    scratch.open().unwrap();
    fs::set_permissions(scratch.path("ca.key"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(scratch.open(), Err(AuthorityError::Key(SecretError::Mode { mode: 0o640, .. }))));
}

#[test]
fn damaged_files_are_named_and_left_alone() {
    let scratch = Scratch::new();
    scratch.open().unwrap();
    let key = fs::read(scratch.path("ca.key")).unwrap();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    for damaged in [b"".to_vec(), key[..key.len() / 2].to_vec(), vec![0xff; 100], ed25519.into_bytes()] {
        fs::write(scratch.path("ca.key"), &damaged).unwrap();
        assert!(matches!(scratch.open(), Err(AuthorityError::KeyDamaged { .. })), "{damaged:?}");
        assert_eq!(fs::read(scratch.path("ca.key")).unwrap(), damaged);
    }
    fs::write(scratch.path("ca.key"), &key).unwrap();
    let (_other_directory, other) = authority();
    let other = pem_of(&other);
    for damaged in [b"".to_vec(), vec![0xff; 100], b"-----BEGIN CERTIFICATE-----".to_vec(), other] {
        fs::write(scratch.path("ca.pem"), &damaged).unwrap();
        assert!(matches!(scratch.open(), Err(AuthorityError::CertificateOther(_))), "{damaged:?}");
        assert_eq!(fs::read(scratch.path("ca.pem")).unwrap(), damaged);
    }
}

fn pem_of(authority: &Authority) -> Vec<u8> {
    let (name, der) = ("CERTIFICATE", authority.certificate.to_vec());
    rcgen_pem(name, &der).into_bytes()
}

fn rcgen_pem(name: &str, der: &[u8]) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    format!("-----BEGIN {name}-----\n{}\n-----END {name}-----\n", BASE64_STANDARD.encode(der))
}

#[test]
fn what_is_issued_holds_for_its_names_and_for_a_day() {
    let (_directory, authority) = authority();
    let names = ["app.example.org", "*.apps.example.org", "192.0.2.7", "2001:db8::7"].map(str::to_owned);
    let issued = authority.issue(&names, now()).unwrap();
    let holds = |name: &str, at_ms: u64| verify(&authority, &issued, name, at_ms).is_ok();
    let day_ms = 24 * 3_600_000;
    for name in ["app.example.org", "web.apps.example.org", "192.0.2.7", "2001:db8::7"] {
        assert!(holds(name, now().unix_ms()), "{name}");
    }
    for name in ["example.org", "a.b.apps.example.org", "192.0.2.8", API_SERVER_NAME] {
        assert!(!holds(name, now().unix_ms()), "{name}");
    }
    assert!(holds("192.0.2.7", now().unix_ms() - 3_000_000), "for clocks that are behind");
    assert!(holds("192.0.2.7", issued.renew_at.unix_ms() + 3_600_000), "after it should be replaced");
    assert!(!holds("192.0.2.7", now().unix_ms() + day_ms + 1000));
}

#[test]
fn the_name_of_the_api_is_given_to_the_api_alone() {
    let (_directory, authority) = authority();
    for name in [API_SERVER_NAME.to_owned(), API_SERVER_NAME.to_ascii_uppercase()] {
        assert!(matches!(authority.issue(&[name], now()), Err(IssueError::Reserved)));
    }
    let wildcard = authority.issue(&["*.hypercore.internal".to_owned()], now());
    assert!(matches!(wildcard, Err(IssueError::Reserved)), "nor by a wildcard");
    let issued = authority.issue_for_api(&[], now()).unwrap();
    assert!(verify(&authority, &issued, API_SERVER_NAME, now().unix_ms()).is_ok());
}

#[test]
fn what_is_no_name_is_refused_as_text() {
    let (_directory, authority) = authority();
    for name in ["", "a b", "x\u{1b}[2J", "*", "ü.example", "https://a"] {
        let error = authority.issue(&[name.to_owned()], now()).unwrap_err();
        assert!(matches!(&error, IssueError::Name(_)), "{name}");
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

fn verify(authority: &Authority, issued: &Issued, name: &str, at_ms: u64) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone())?;
    let provider = Arc::new(default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_millis(at_ms));
    let name = ServerName::try_from(name).unwrap();
    verifier.verify_server_cert(&issued.key.cert[0], &[], &name, &[], at).map(drop)
}
