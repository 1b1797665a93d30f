//! `ImageService`: the images kept on the node.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use hypercore_api::v1::{self, image_pull_event::Event, image_service_server::ImageService};
use hypercore_model::{Digest, ImageReference};
use hypercore_runtime::image::{Image, PullProgress};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::{Handlers, problem::Problem, progress::pull_progress};
use crate::{failure::Failure, keeper::blame};

/// How many steps of a pull may wait for a slow reader before further ones are dropped: the last of a layer is
/// always followed by the end of the stream.
const PROGRESS_BACKLOG_MAX: usize = 256;

#[tonic::async_trait]
impl ImageService for Handlers {
    type PullStream = ReceiverStream<Result<v1::ImagePullEvent, Status>>;

    async fn pull(&self, call: Request<v1::ImagePullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let reference = parse_reference(&call.into_inner().reference)?;
        let node = Arc::clone(&self.node);
        let (answers, stream) = mpsc::channel(PROGRESS_BACKLOG_MAX);
        self.supervisor.spawn_once("image/pull", async move {
            let note = |progress: PullProgress| {
                let event = Event::Progress(pull_progress(&progress));
                drop(answers.try_send(Ok(v1::ImagePullEvent { event: Some(event) })));
            };
            let pulled = tokio::select! {
                pulled = node.images.pull(&reference, &node.registries, &note) => pulled,
                // A caller that goes away gives up its pull.
                () = answers.closed() => return,
            };
            let end = match pulled {
                Ok(pulled) => Ok(v1::ImagePullEvent { event: Some(Event::Done(image(&pulled))) }),
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
        let images = self.node.images.list();
        Ok(Response::new(v1::ImageListResponse { images: images.iter().map(image).collect() }))
    }

    async fn remove(
        &self,
        call: Request<v1::ImageRemoveRequest>,
    ) -> Result<Response<v1::ImageRemoveResponse>, Status> {
        let reference = parse_reference(&call.into_inner().reference)?;
        let removed = self.node.images.remove(&reference, &self.images_in_use()).await;
        let freed_bytes = removed.map_err(|error| image_problem(&blame::image_remove(&error)))?;
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
        let imported = self.node.images.import(&path, rename.as_ref()).await;
        let images = imported.map_err(|error| image_problem(&blame::import(&error)))?;
        Ok(Response::new(v1::ImageImportResponse { images: images.iter().map(image).collect() }))
    }

    async fn prune(
        &self,
        _: Request<v1::ImagePruneRequest>,
    ) -> Result<Response<v1::ImagePruneResponse>, Status> {
        Err(Status::unimplemented("this agent does not know `prune` yet"))
    }

    async fn verify(
        &self,
        _: Request<v1::ImageVerifyRequest>,
    ) -> Result<Response<v1::ImageVerifyResponse>, Status> {
        Err(Status::unimplemented("this agent does not know `verify` yet"))
    }

    async fn login(
        &self,
        _: Request<v1::ImageLoginRequest>,
    ) -> Result<Response<v1::ImageLoginResponse>, Status> {
        Err(Status::unimplemented("this agent does not know `login` yet"))
    }

    async fn logout(
        &self,
        _: Request<v1::ImageLogoutRequest>,
    ) -> Result<Response<v1::ImageLogoutResponse>, Status> {
        Err(Status::unimplemented("this agent does not know `logout` yet"))
    }
}

impl Handlers {
    /// The images that a workload of the state was made of, or will be.
    fn images_in_use(&self) -> BTreeSet<Digest> {
        let references: Vec<ImageReference> = self
            .node
            .ledger
            .read(|state| state.workloads().map(|record| record.spec.image.clone()).collect());
        let found = references.iter().filter_map(|reference| self.node.images.get(reference));
        let mut digests: BTreeSet<Digest> = found.map(|image| image.digest).collect();
        // A reference may have moved on since a workload started: what runs holds what it was made of.
        digests.extend(self.node.board.image_digests());
        digests
    }
}

fn parse_reference(text: &str) -> Result<ImageReference, Problem> {
    text.parse().map_err(|error: hypercore_model::image::ImageNameError| {
        Problem::invalid("invalid_image_reference", error.to_string())
    })
}

/// A failure of the image store, with the gRPC code that fits its own.
fn image_problem(failure: &Failure) -> Problem {
    let kind = match failure.code.as_str() {
        "image_not_found" => Code::NotFound,
        "registry_unreachable" => Code::Unavailable,
        "registry_unauthorized" | "registry_refused" => Code::PermissionDenied,
        "path_unreadable" | "not_an_image" | "invalid_image_reference" => Code::InvalidArgument,
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
