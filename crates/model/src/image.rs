//! Image names and content digests, as the OCI distribution spec and docker's conventions write them.
//! It refuses to contact anything: what a tag points to is the runtime's question.

use std::{fmt, str::FromStr};

use crate::{limits::IMAGE_REFERENCE_LEN_MAX, text::serde_as_text};

/// Registry of references that name none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Repository prefix on the default registry of references with a single path component.
const DEFAULT_NAMESPACE: &str = "library";
/// Tag of references that name neither tag nor digest.
const DEFAULT_TAG: &str = "latest";

/// Why a text is not an image reference or digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageNameError {
    /// Not `[REGISTRY/]NAME[:TAG][@sha256:DIGEST]`.
    #[error("`{0}` is not an image reference: {1} (the form is [REGISTRY/]NAME[:TAG][@sha256:DIGEST])")]
    Reference(String, &'static str),
    /// Not `sha256:` and 64 lower-case hexadecimal digits.
    #[error("`{0}` is not a digest (sha256: and 64 lower-case hexadecimal digits)")]
    Digest(String),
}

/// The SHA-256 of some content, written `sha256:<64 hex digits>` (OCI image spec, descriptor, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Wraps the 32 bytes that SHA-256 gave.
    #[must_use]
    pub const fn from_sha256(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 64 hexadecimal digits alone: safe as a file name.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The first 12 hexadecimal digits: what tables show.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        let bad = || ImageNameError::Digest(text.to_owned());
        let digits = text.strip_prefix("sha256:").ok_or_else(bad)?;
        let is_lower_hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| bad())?;
        if is_lower_hex { Ok(Self(bytes)) } else { Err(bad()) }
    }
}

serde_as_text!(Digest);

/// A fully spelled image name. `busybox` is read as `docker.io/library/busybox:latest`, as docker does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// Host and optional port of the registry, such as `docker.io` or `127.0.0.1:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path within the registry, such as `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` when the reference is by digest alone.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest the content must have, when the reference pins one.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The form people type: without docker's default registry and namespace.
    #[must_use]
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix(DEFAULT_REGISTRY).and_then(|rest| rest.strip_prefix('/')) else {
            return full;
        };
        let short = rest.strip_prefix(DEFAULT_NAMESPACE).and_then(|rest| rest.strip_prefix('/'));
        short.filter(|short| !short.contains('/')).unwrap_or(rest).to_owned()
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageReference {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        let bad = |why| ImageNameError::Reference(text.to_owned(), why);
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if text.len() > IMAGE_REFERENCE_LEN_MAX {
            return Err(bad("it is too long"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(|_| bad("its digest is malformed"))?)),
            None => (text, None),
        };
        let (path, tag) = split_tag(name);
        let (registry, repository) = split_registry(path);
        if !registry.is_none_or(is_registry) {
            return Err(bad("its registry is not a host name"));
        }
        if !repository.split('/').all(is_path_component) {
            return Err(bad(
                "its name may have only lower-case letters, digits and single separators `.` `_` `-` `/`",
            ));
        }
        if !tag.is_none_or(is_tag) {
            return Err(bad("its tag may have only letters, digits, `_`, `.` and `-`, at most 128"));
        }
        let needs_default_tag = tag.is_none() && digest.is_none();
        let registry = registry.unwrap_or(DEFAULT_REGISTRY);
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("{DEFAULT_NAMESPACE}/{repository}")
        } else {
            repository.to_owned()
        };
        let tag = tag.or(needs_default_tag.then_some(DEFAULT_TAG)).map(str::to_owned);
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

serde_as_text!(ImageReference);

/// Splits `name[:tag]`; a colon before the last slash belongs to the registry's port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    }
}

/// Splits off the registry: the first component, if it has a dot or a port or is `localhost`.
fn split_registry(path: &str) -> (Option<&str>, &str) {
    match path.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, path),
    }
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    let is_host = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        && !host.starts_with(['.', '-'])
        && !host.ends_with(['.', '-']);
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// One path component of a repository (OCI distribution spec, "Pulling manifests", `<name>`).
fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let has_ends =
        component.bytes().next().is_some_and(is_word) && component.bytes().last().is_some_and(is_word);
    let mut separators = component.split(|c: char| is_word_char(c)).filter(|run| !run.is_empty());
    has_ends && separators.all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-'))
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_are_spelled_out_as_docker_does() {
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("me/app:1", "docker.io/me/app:1", "me/app:1"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b:v1"),
            ("docker.io/library/web:1", "docker.io/library/web:1", "web:1"),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(full.parse(), Ok(reference));
        }
    }

    #[test]
    fn a_digest_replaces_the_default_tag() {
        let reference: ImageReference = format!("web@{DIGEST}").parse().unwrap();
        assert_eq!(reference.tag(), None);
        assert_eq!(reference.to_string(), format!("docker.io/library/web@{DIGEST}"));
    }

    #[test]
    fn malformed_references_are_refused() {
        for text in [
            "",
            ":1",
            "Web",
            "web:",
            "web@sha256:12",
            "a//b",
            "/a",
            "a/",
            "../../etc",
            "a b",
            "a..b",
            "web:-x",
            "reg:99999/a",
            "-x.io/a",
            "a\n",
            "http://x/y",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text:?}");
        }
        assert!("x".repeat(600).parse::<ImageReference>().is_err());
    }

    #[test]
    fn only_lower_case_sha256_is_a_digest() {
        assert_eq!(DIGEST.parse::<Digest>().unwrap().to_string(), DIGEST);
        for text in ["", "sha256:", "md5:00", &DIGEST.to_uppercase(), &DIGEST[..70]] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
