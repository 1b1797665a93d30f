//! Speaks the OCI distribution protocol with one registry about one repository: manifests and blobs, anonymously.
//!
//! It refuses to hold more of an answer in memory than an honest one has, to leave TLS once it was begun, and to take
//! part in pushes or logins. Nothing it returns is verified but for what the registry itself says about digests: the
//! caller compares.

use std::{fmt, sync::OnceLock, time::Duration};

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt};
use hypercore_model::{Digest, ImageReference};
use reqwest::{
    Client, Response, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};

use super::{
    TransferError,
    content::{Blob, ContentError, DOCUMENT_BYTES_MAX, MANIFEST_MEDIA_TYPES},
    download::{BlobSource, BlobStream, digest_of},
    endpoint::Endpoint,
    shown::shown_bytes,
};

mod token;

use token::Token;

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
    tls: OnceLock<Client>,
    plain: OnceLock<Client>,
    loopback: OnceLock<Client>,
}

/// One repository of one registry.
pub(super) struct Registry {
    client: Client,
    base_url: String,
    repository: String,
    token: Token,
}

impl Clients {
    /// The client for that endpoint.
    ///
    /// # Errors
    /// [`TransferError::Unreachable`] when TLS can't be set up: there are no CA certificates.
    fn get(&self, endpoint: &Endpoint) -> Result<Client, TransferError> {
        let slot = match endpoint {
            Endpoint { is_plain: false, .. } => &self.tls,
            Endpoint { is_loopback: true, .. } => &self.loopback,
            Endpoint { .. } => &self.plain,
        };
        if let Some(client) = slot.get() {
            return Ok(client.clone());
        }
        let builder = || {
            let builder = Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
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
        let client = client.map_err(TransferError::Unreachable)?;
        Ok(slot.get_or_init(|| client).clone())
    }
}

impl Registry {
    /// A repository at an endpoint. Nothing is sent yet.
    ///
    /// # Errors
    /// [`TransferError::Unreachable`] when TLS can't be set up.
    pub(super) fn new(
        clients: &Clients,
        endpoint: &Endpoint,
        image: &ImageReference,
    ) -> Result<Self, TransferError> {
        let client = clients.get(endpoint)?;
        let scheme = if endpoint.is_plain { "http" } else { "https" };
        let repository = image.repository().to_owned();
        Ok(Self {
            client,
            base_url: format!("{scheme}://{}", endpoint.host),
            token: Token::new(&repository),
            repository,
        })
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

    /// Asks, and asks again with a token when the registry wants one.
    async fn get(&self, url: &str, headers: HeaderMap) -> Result<Response, TransferError> {
        let token = self.token.current();
        let response = self.send(url, headers.clone(), token.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return expect_success(response).await;
        }
        let token = self.token.renew(&self.client, response.headers(), token.as_deref()).await?;
        expect_success(self.send(url, headers, Some(&token)).await?).await
    }

    async fn send(
        &self,
        url: &str,
        headers: HeaderMap,
        token: Option<&str>,
    ) -> Result<Response, TransferError> {
        let mut request = self.client.get(url).headers(headers);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.map_err(TransferError::Unreachable)
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
        // The token is left out on purpose.
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
