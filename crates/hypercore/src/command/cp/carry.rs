//! A tar stream between the agent's messages and a thread that packs or unpacks. Each side waits for the other: no more
//! than a few pieces are ever in memory.

use std::io::{self, Write};

use hypercore_api::{
    ApiError,
    client::Incoming as Messages,
    v1::{self, copy_request::Message as In, copy_response::Message as Out},
};
use hypercore_copy::{
    CopyError,
    pieces::{Outgoing, PIECE_BYTES, Piece},
};
use tokio::sync::mpsc;

/// Pieces between the two sides.
pub(super) const PIECES_MAX: usize = 8;

/// Has `work` write a stream that goes to the agent, and says that it is complete when all of it was written.
///
/// # Errors
/// Those of `work`; [`CopyError::Stream`] when the agent takes no more.
pub(super) fn send<T>(
    requests: &mpsc::Sender<v1::CopyRequest>,
    work: impl FnOnce(&mut dyn Write) -> Result<T, CopyError>,
) -> Result<T, CopyError> {
    let send = |message| {
        let request = v1::CopyRequest { message: Some(message) };
        requests.blocking_send(request).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    };
    let mut outgoing = Outgoing::new(PIECE_BYTES, |piece| send(In::Data(piece)));
    let worked = work(&mut outgoing)?;
    outgoing.flush().and_then(|()| send(In::Done(true))).map_err(CopyError::Stream)?;
    Ok(worked)
}

/// Carries the agent's pieces to whoever reads them, until the agent says that it is done. A reader that is gone has
/// failed, and says so itself.
pub(super) async fn pump(
    mut messages: Messages<v1::CopyResponse>,
    pieces: mpsc::Sender<Piece>,
) -> Result<(), ApiError> {
    while let Some(message) = messages.next().await? {
        let piece = match message.message {
            Some(Out::Data(bytes)) => Piece::Data(bytes),
            Some(Out::Done(_)) => Piece::End,
            Some(Out::Stat(_)) | None => continue,
        };
        let is_over = piece == Piece::End;
        if pieces.send(piece).await.is_err() || is_over {
            return Ok(());
        }
    }
    Ok(())
}
