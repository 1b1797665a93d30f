//! The fake's `ImageService`.

use hypercore_api::v1::{self, image_pull_event::Event, image_service_server::ImageService};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Service;

fn image(reference: &str) -> v1::Image {
    v1::Image {
        reference: reference.to_owned(),
        digest: format!("sha256:{}", "ab".repeat(32)),
        size_bytes: 3 << 20,
        created_at_ms: 0,
    }
}

#[tonic::async_trait]
impl ImageService for Service {
    type PullStream = ReceiverStream<Result<v1::ImagePullEvent, Status>>;

    async fn pull(&self, call: Request<v1::ImagePullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let reference = call.into_inner().reference;
        self.note(format!("pull {reference}"))?;
        let layer = v1::PullProgress { layer: "sha256:00".into(), received: 1, total: 2, step: 1 };
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        for event in [Event::Progress(layer), Event::Done(image(&reference))] {
            sender.try_send(Ok(v1::ImagePullEvent { event: Some(event), source: String::new() })).unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list(
        &self,
        _: Request<v1::ImageListRequest>,
    ) -> Result<Response<v1::ImageListResponse>, Status> {
        self.note("image list")?;
        Ok(Response::new(v1::ImageListResponse { images: self.script.images.clone() }))
    }

    async fn remove(
        &self,
        call: Request<v1::ImageRemoveRequest>,
    ) -> Result<Response<v1::ImageRemoveResponse>, Status> {
        self.note(format!("image remove {}", call.into_inner().reference))?;
        Ok(Response::new(v1::ImageRemoveResponse { freed_bytes: 1 << 20 }))
    }

    async fn import(
        &self,
        call: Request<v1::ImageImportRequest>,
    ) -> Result<Response<v1::ImageImportResponse>, Status> {
        let call = call.into_inner();
        self.note(format!("image import {} {}", call.path, call.reference))?;
        Ok(Response::new(v1::ImageImportResponse { images: vec![image("docker.io/library/a:1")] }))
    }

    async fn prune(
        &self,
        _: Request<v1::ImagePruneRequest>,
    ) -> Result<Response<v1::ImagePruneResponse>, Status> {
        Err(Status::unimplemented("no test plays `prune`"))
    }

    async fn verify(
        &self,
        _: Request<v1::ImageVerifyRequest>,
    ) -> Result<Response<v1::ImageVerifyResponse>, Status> {
        Err(Status::unimplemented("no test plays `verify`"))
    }

    async fn login(
        &self,
        _: Request<v1::ImageLoginRequest>,
    ) -> Result<Response<v1::ImageLoginResponse>, Status> {
        Err(Status::unimplemented("no test plays `login`"))
    }

    async fn logout(
        &self,
        _: Request<v1::ImageLogoutRequest>,
    ) -> Result<Response<v1::ImageLogoutResponse>, Status> {
        Err(Status::unimplemented("no test plays `logout`"))
    }
}
