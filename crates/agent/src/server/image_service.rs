//! `ImageService`: the images kept on the node.

use std::{path::PathBuf, sync::Arc};

use hypercore_api::v1::{self, image_pull_event::Event as PullEvent, image_service_server::ImageService};
use hypercore_model::ImageReference;
use hypercore_runtime::image::{Image, PruneScope, PullProgress, Secret, SignatureForm, Verified, VerifyKey};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::{Handlers, problem::Problem, progress::pull_progress};
use crate::{
    events::{Action, Event},
    failure::Failure,
    images::in_use,
    keeper::blame,
};

/// How many steps of a pull may wait for a slow reader before further ones are dropped: the last of a layer is
/// always followed by the end of the stream.
const PROGRESS_BACKLOG_MAX: usize = 256;
/// Most keys that one call may bring.
const KEYS_COUNT_MAX: usize = 100;

#[tonic::async_trait]
impl ImageService for Handlers {
    type PullStream = ReceiverStream<Result<v1::ImagePullEvent, Status>>;

    async fn pull(&self, call: Request<v1::ImagePullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let reference = parse_reference(&call.into_inner().reference)?;
        let node = Arc::clone(&self.node);
        let (answers, stream) = mpsc::channel(PROGRESS_BACKLOG_MAX);
        self.supervisor.spawn_once("image/pull", async move {
            let note = |progress: PullProgress| {
                let event = PullEvent::Progress(pull_progress(&progress));
                let event = v1::ImagePullEvent { event: Some(event), source: String::new() };
                drop(answers.try_send(Ok(event)));
            };
            let pulled = tokio::select! {
                pulled = node.images.store.pull(&reference, &node.images.settings, &note) => pulled,
                // A caller that goes away gives up its pull.
                () = answers.closed() => return,
            };
            let end = match pulled {
                Ok(pulled) => {
                    let event = Event::image(Action::Pulled, reference.to_string());
                    node.events.publish(event.with("source", &pulled.source));
                    let done = PullEvent::Done(image(&pulled.image));
                    Ok(v1::ImagePullEvent { event: Some(done), source: pulled.source })
                }
                Err(error) => Err(image_problem(&blame::pull(&error)).into()),
            };
            // A failed send means that nobody wants to know any more.
            drop(answers.send(end).await);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list(
        &self,
        _: Request<v1::ImageListRequest>,
    ) -> Result<Response<v1::ImageListResponse>, Status> {
        let images = self.node.images.store.list();
        Ok(Response::new(v1::ImageListResponse { images: images.iter().map(image).collect() }))
    }

    async fn remove(
        &self,
        call: Request<v1::ImageRemoveRequest>,
    ) -> Result<Response<v1::ImageRemoveResponse>, Status> {
        let v1::ImageRemoveRequest { reference, force } = call.into_inner();
        let reference = parse_reference(&reference)?;
        let removed = self.node.images.store.remove(&reference, force, in_use(&self.node)).await;
        let freed_bytes = removed.map_err(|error| image_problem(&blame::image_remove(&error)))?;
        self.publish(Action::Removed, &reference);
        Ok(Response::new(v1::ImageRemoveResponse { freed_bytes }))
    }

    async fn import(
        &self,
        call: Request<v1::ImageImportRequest>,
    ) -> Result<Response<v1::ImageImportResponse>, Status> {
        let call = call.into_inner();
        let path = PathBuf::from(&call.path);
        if !path.is_absolute() {
            return Err(
                Problem::invalid("invalid_path", format!("`{}` is not an absolute path", call.path)).into()
            );
        }
        let rename = (!call.reference.is_empty()).then(|| parse_reference(&call.reference)).transpose()?;
        let imported = self.node.images.store.import(&path, rename.as_ref()).await;
        let images = imported.map_err(|error| image_problem(&blame::import(&error)))?;
        for image in &images {
            self.publish(Action::Imported, &image.reference);
        }
        Ok(Response::new(v1::ImageImportResponse { images: images.iter().map(image).collect() }))
    }

    async fn prune(
        &self,
        call: Request<v1::ImagePruneRequest>,
    ) -> Result<Response<v1::ImagePruneResponse>, Status> {
        let scope = if call.into_inner().all { PruneScope::Unused } else { PruneScope::Nameless };
        let pruned = self.node.images.store.prune(scope, in_use(&self.node)).await;
        let pruned = pruned.map_err(|error| image_problem(&blame::image_remove(&error)))?;
        for reference in &pruned.removed {
            self.publish(Action::Pruned, reference);
        }
        let references = pruned.removed.iter().map(ToString::to_string).collect();
        Ok(Response::new(v1::ImagePruneResponse { references, freed_bytes: pruned.freed_bytes }))
    }

    async fn verify(
        &self,
        call: Request<v1::ImageVerifyRequest>,
    ) -> Result<Response<v1::ImageVerifyResponse>, Status> {
        let call = call.into_inner();
        let reference = parse_reference(&call.reference)?;
        let images = &self.node.images;
        let given = parse_keys(&call.keys)?;
        let keys = if given.is_empty() { &images.settings.verify_keys } else { &given };
        if keys.is_empty() {
            return Err(Problem::invalid("no_keys", "there is no key to verify the image with")
                .hint("give --key FILE, or set runtime.verify_keys")
                .into());
        }
        let verified = images.store.verify(&reference, keys, &images.settings).await;
        let verified = verified.map_err(|error| image_problem(&blame::pull(&error)))?;
        Ok(Response::new(verification(verified)))
    }

    async fn login(
        &self,
        call: Request<v1::ImageLoginRequest>,
    ) -> Result<Response<v1::ImageLoginResponse>, Status> {
        let v1::ImageLoginRequest { registry, username, password } = call.into_inner();
        let (password, images) = (Secret::new(password), &self.node.images);
        if username.is_empty() || username.contains(|c: char| c == ':' || c.is_control()) {
            let why = "a user's name has at least one character, no colon and no control characters";
            return Err(Problem::invalid("invalid_user", why).into());
        }
        let login = images.store.login(&registry, &username, password, &images.logins, &images.settings);
        let registry = login.await.map_err(|error| image_problem(&blame::login(&error)))?;
        tracing::info!(registry, user = username, "logged in");
        Ok(Response::new(v1::ImageLoginResponse { registry }))
    }

    async fn logout(
        &self,
        call: Request<v1::ImageLogoutRequest>,
    ) -> Result<Response<v1::ImageLogoutResponse>, Status> {
        let v1::ImageLogoutRequest { registry } = call.into_inner();
        let images = &self.node.images;
        let logout = images.store.logout(&registry, &images.logins).await;
        match logout.map_err(|error| image_problem(&blame::login(&error)))? {
            Some(registry) => Ok(Response::new(v1::ImageLogoutResponse { registry })),
            None => {
                Err(Problem::not_found("not_logged_in", format!("this node is not logged in to {registry}"))
                    .hint("logins of docker's own configuration are docker's to remove")
                    .into())
            }
        }
    }
}

impl Handlers {
    fn publish(&self, action: Action, reference: &ImageReference) {
        self.node.events.publish(Event::image(action, reference.to_string()));
    }
}

fn parse_reference(text: &str) -> Result<ImageReference, Problem> {
    text.parse().map_err(|error: hypercore_model::image::ImageNameError| {
        Problem::invalid("invalid_image_reference", error.to_string())
    })
}

fn parse_keys(texts: &[String]) -> Result<Vec<VerifyKey>, Problem> {
    if texts.len() > KEYS_COUNT_MAX {
        return Err(Problem::invalid("too_many_keys", format!("give at most {KEYS_COUNT_MAX} keys")));
    }
    let parse = |(index, text): (usize, &String)| {
        VerifyKey::from_pem(text).map_err(|error| {
            Problem::invalid("invalid_key", format!("key {} can't be used: {error}", index + 1))
        })
    };
    texts.iter().enumerate().map(parse).collect()
}

/// A failure of the image store, with the gRPC code that fits its own.
fn image_problem(failure: &Failure) -> Problem {
    let kind = match failure.code.as_str() {
        "image_not_found" => Code::NotFound,
        "registry_unreachable" => Code::Unavailable,
        "registry_unauthorized" | "registry_refused" | "image_not_verified" => Code::PermissionDenied,
        "image_in_use" | "credentials_unavailable" => Code::FailedPrecondition,
        "path_unreadable" | "not_an_image" | "invalid_image_reference" | "invalid_registry" => {
            Code::InvalidArgument
        }
        "disk_full" => Code::ResourceExhausted,
        _ => Code::Internal,
    };
    Problem::of_failure(kind, failure)
}

fn image(image: &Image) -> v1::Image {
    v1::Image {
        reference: image.reference.to_string(),
        digest: image.digest.to_string(),
        size_bytes: image.size_bytes,
        created_at_ms: image.created_at.unix_ms(),
    }
}

fn verification(verified: Verified) -> v1::ImageVerifyResponse {
    let form = match verified.form {
        SignatureForm::Tag => "tag",
        SignatureForm::Referrer => "referrer",
        SignatureForm::Bundle => "bundle",
    };
    let signature = v1::ImageSignature {
        key: verified.key,
        form: form.to_owned(),
        digest: verified.signed.to_string(),
        annotations: verified.annotations.into_iter().collect(),
    };
    v1::ImageVerifyResponse { digest: verified.digest.to_string(), signatures: vec![signature] }
}
