//! Speaks the OCI distribution protocol with one registry about one repository: manifests, blobs and referrers.
//!
//! It refuses to hold more of an answer in memory than an honest one has, to leave TLS once it was begun, to show
//! credentials to anybody but that registry and its token server, and to take part in pushes. Nothing it returns is verified but for what the registry itself says about digests: the
//! caller compares.

use std::{fmt, sync::OnceLock, time::Duration};

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt};
use hypercore_copy::shown::shown_bytes;
use hypercore_model::Digest;
use reqwest::{
    Client, Response, StatusCode,
    header::{self, HeaderMap, HeaderValue},
    redirect::Policy,
};

use super::{
    Credentials, TransferError,
    content::{Blob, ContentError, DOCUMENT_BYTES_MAX, MANIFEST_MEDIA_TYPES},
    download::{BlobSource, BlobStream, digest_of},
    endpoint::Endpoint,
};

mod access;

use access::{Access, Grant, TokenClients};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a registry may send nothing at all.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Redirects followed per request: blobs are often kept elsewhere.
const REDIRECTS_MAX: usize = 5;
/// Header that tells the digest of a manifest (OCI distribution spec, "Pulling manifests").
const DIGEST_HEADER: &str = "docker-content-digest";

/// HTTP clients, made when they are first needed: reading CA certificates takes milliseconds, and a machine without
/// any can still use plain registries.
#[derive(Debug, Default)]
pub(super) struct Clients {
    tls: OnceLock<TokenClients>,
    plain: OnceLock<TokenClients>,
    loopback: OnceLock<TokenClients>,
}

/// One repository of one registry.
pub(super) struct Registry {
    clients: TokenClients,
    base_url: String,
    repository: String,
    access: Access,
}

impl Clients {
    /// The client for that endpoint.
    ///
    /// # Errors
    /// [`TransferError::Unreachable`] when TLS can't be set up: there are no CA certificates.
    fn get(&self, endpoint: &Endpoint) -> Result<TokenClients, TransferError> {
        let slot = match endpoint {
            Endpoint { is_plain: false, .. } => &self.tls,
            Endpoint { is_loopback: true, .. } => &self.loopback,
            Endpoint { .. } => &self.plain,
        };
        if let Some(clients) = slot.get() {
            return Ok(clients.clone());
        }
        let following = build(endpoint, || Policy::limited(REDIRECTS_MAX))?;
        let direct = build(endpoint, Policy::none)?;
        Ok(slot.get_or_init(|| TokenClients { following, direct }).clone())
    }
}

fn build(endpoint: &Endpoint, redirects: fn() -> Policy) -> Result<Client, TransferError> {
    let builder = || {
        let builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(redirects())
            .user_agent(concat!("hypercore/", env!("CARGO_PKG_VERSION")))
            .https_only(!endpoint.is_plain);
        if endpoint.is_loopback { builder.no_proxy() } else { builder }
    };
    let without_roots = || builder().tls_certs_only([]).build();
    let client = match endpoint {
        Endpoint { is_plain: false, .. } => builder().build(),
        Endpoint { is_loopback: true, .. } => without_roots(),
        // It may redirect to where TLS is spoken, but works on machines without CA certificates too.
        Endpoint { .. } => builder().build().or_else(|_| without_roots()),
    };
    client.map_err(TransferError::Unreachable)
}

impl Registry {
    /// A repository at an endpoint. Nothing is sent yet.
    ///
    /// # Errors
    /// [`TransferError::Unreachable`] when TLS can't be set up.
    pub(super) fn new(
        clients: &Clients,
        endpoint: &Endpoint,
        repository: &str,
        credentials: &Credentials,
    ) -> Result<Self, TransferError> {
        let scope = (!repository.is_empty()).then(|| format!("repository:{repository}:pull"));
        Ok(Self {
            clients: clients.get(endpoint)?,
            base_url: endpoint.url(),
            // A host that is no part of a URL doesn't exist.
            access: Access::new(endpoint, scope, credentials).ok_or(TransferError::NotFound)?,
            repository: repository.to_owned(),
        })
    }

    /// Asks whether we are let in at all.
    pub(super) async fn ping(&self) -> Result<(), TransferError> {
        self.get(&format!("{}/v2/", self.base_url), HeaderMap::new()).await.map(drop)
    }

    /// The manifests of that type that refer to another (OCI distribution spec, "Listing Referrers"), as an index; by
    /// the tag that stands for the list where a registry doesn't keep one. `NotFound` where there is neither.
    pub(super) async fn referrers(&self, digest: &Digest) -> Result<Bytes, TransferError> {
        let url = format!("{}/v2/{}/referrers/{digest}", self.base_url, self.repository);
        match self.get(&url, HeaderMap::new()).await {
            Ok(response) => read_bounded("its list of referrers", response).await,
            Err(TransferError::NotFound | TransferError::Refused { .. }) => {
                self.manifest(&format!("sha256-{}", digest.hex())).await.map(|(bytes, _)| bytes)
            }
            Err(error) => Err(error),
        }
    }

    /// A blob that has to fit into memory, verified.
    pub(super) async fn small_blob(
        &self,
        what: &'static str,
        digest: &Digest,
    ) -> Result<Bytes, TransferError> {
        let url = format!("{}/v2/{}/blobs/{digest}", self.base_url, self.repository);
        let bytes = read_bounded(what, self.get(&url, HeaderMap::new()).await?).await?;
        let actual = digest_of(&bytes);
        if actual == *digest {
            Ok(bytes)
        } else {
            Err(TransferError::DigestMismatch { expected: *digest, actual })
        }
    }

    /// The manifest or index that a tag or digest stands for, as bytes, with the digest of those bytes.
    pub(super) async fn manifest(&self, tag_or_digest: &str) -> Result<(Bytes, Digest), TransferError> {
        let url = format!("{}/v2/{}/manifests/{tag_or_digest}", self.base_url, self.repository);
        let accept = HeaderValue::from_str(&MANIFEST_MEDIA_TYPES.join(", ")).expect("media types are ASCII");
        let response = self.get(&url, HeaderMap::from_iter([(header::ACCEPT, accept)])).await?;
        let announced =
            response.headers().get(DIGEST_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = read_bounded("its manifest", response).await?;
        let actual = digest_of(&bytes);
        match announced {
            Some(expected) if expected != actual => Err(TransferError::DigestMismatch { expected, actual }),
            _ => Ok((bytes, actual)),
        }
    }

    /// Asks, and asks again as the registry wants it when it wants to know who asks.
    async fn get(&self, url: &str, headers: HeaderMap) -> Result<Response, TransferError> {
        let grant = self.access.current();
        let response = self.send(url, headers.clone(), grant.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.admitted(response).await;
        }
        let grant = self.access.renew(&self.clients, &response, grant.as_ref()).await?;
        self.admitted(self.send(url, headers, Some(&grant)).await?).await
    }

    async fn send(
        &self,
        url: &str,
        headers: HeaderMap,
        grant: Option<&Grant>,
    ) -> Result<Response, TransferError> {
        let request = self.clients.following.get(url).headers(headers);
        let request = match grant {
            Some(grant) => grant.apply(request),
            None => request,
        };
        request.send().await.map_err(TransferError::Unreachable)
    }

    async fn admitted(&self, response: Response) -> Result<Response, TransferError> {
        let refused = |error| match error {
            TransferError::Unauthorized => self.access.refusal(),
            error => error,
        };
        expect_success(response).await.map_err(refused)
    }
}

impl BlobSource for Registry {
    async fn open(&self, blob: &Blob, from_bytes: u64) -> Result<BlobStream, TransferError> {
        let url = format!("{}/v2/{}/blobs/{}", self.base_url, self.repository, blob.digest);
        let mut headers = HeaderMap::new();
        if from_bytes > 0 {
            headers.insert(
                header::RANGE,
                HeaderValue::from_str(&format!("bytes={from_bytes}-")).expect("it is ASCII"),
            );
        }
        let response = self.get(&url, headers).await.map_err(|error| match error {
            // "The image was not found" would be the wrong message: its manifest was.
            TransferError::NotFound => {
                TransferError::Refused { status: 404, message: format!(": it has no blob {}", blob.digest) }
            }
            error => error,
        })?;
        let is_partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let stream = response.bytes_stream().map_err(TransferError::Unreachable);
        // A registry that knows no ranges begins anew.
        let surplus_bytes = if is_partial { 0 } else { from_bytes };
        Ok(skip_bytes(stream.boxed(), surplus_bytes))
    }
}

/// Leaves out the beginning of a stream.
fn skip_bytes(stream: BlobStream, mut surplus_bytes: u64) -> BlobStream {
    if surplus_bytes == 0 {
        return stream;
    }
    let skip = move |mut chunk: Bytes| {
        let skipped = chunk.len().min(usize::try_from(surplus_bytes).unwrap_or(usize::MAX));
        surplus_bytes -= skipped as u64;
        chunk.advance(skipped);
        chunk
    };
    stream.map_ok(skip).boxed()
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What lets us in is left out on purpose.
        write!(f, "Registry({}/{})", self.base_url, self.repository)
    }
}

async fn expect_success(response: Response) -> Result<Response, TransferError> {
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::NOT_FOUND => Err(TransferError::NotFound),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(TransferError::Unauthorized),
        status => {
            let text = shown_bytes(&read_bounded("the answer", response).await.unwrap_or_default());
            let message = if text.is_empty() { text } else { format!(": {text}") };
            Err(TransferError::Refused { status: status.as_u16(), message })
        }
    }
}

/// Reads an answer that has to fit into memory.
async fn read_bounded(what: &'static str, mut response: Response) -> Result<Bytes, TransferError> {
    let mut content = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(TransferError::Unreachable)? {
        content.extend_from_slice(&chunk);
        let bytes = content.len() as u64;
        if bytes > DOCUMENT_BYTES_MAX {
            return Err(TransferError::Malformed(ContentError::TooLarge {
                what,
                bytes,
                bytes_max: DOCUMENT_BYTES_MAX,
            }));
        }
    }
    Ok(content.into())
}
