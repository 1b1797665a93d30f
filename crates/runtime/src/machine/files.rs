//! Files into a machine and out of it: its guest packs and unpacks, as `hypercore_copy` does for containers on the host.
//! It refuses to hold more than the protocol's credit, and to believe a guest: what comes out is what anybody may have
//! written, and is called what the caller called it.

use std::{path::Path, time::Duration};

use hypercore_copy::{Fault, Stat};
use hypercore_wire::{
    Credit, ErrorCode, Flags, Message,
    message::{CopyFiles, ExecSignal, Stdin, Window},
};

use super::contact::{self, Contact, ContactError};
use crate::sandbox::link::{Link, LinkError};

/// How long the guest may take to find out what is at a path.
const STAT_TIME_MAX: Duration = Duration::from_secs(60);
/// Bytes of a stream that may be on their way to us. All streams of a machine share one connection: who doesn't read
/// must not hold up the others, so it is less than what a socket holds.
const OUTPUT_CREDIT: u32 = 64 * 1024;
/// Most bytes of a stream in one message.
const INPUT_LEN_MAX: usize = 32 * 1024;

/// What to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestCopy {
    /// Into the machine; else out of it.
    pub into: bool,
    /// The path inside, as it was typed.
    pub path: String,
    /// Copy what a link at the path leads to, not the link.
    pub follow_link: bool,
}

/// What comes of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyEvent {
    /// A piece of the tar stream.
    Data(Vec<u8>),
    /// What was put is on its way: more can be put.
    Taken,
    /// Everything was copied; nothing follows.
    Done {
        /// Files, directories and links.
        files: u64,
        /// Bytes of files' contents.
        bytes: u64,
    },
}

/// A copy under way. Dropping it breaks it off.
#[derive(Debug)]
pub struct Copying {
    link: Link,
    /// What may be sent.
    credit: Credit,
    /// What may come.
    output_credit: Credit,
    /// What is to be sent, as far as it wasn't.
    pending: Vec<u8>,
    is_complete: bool,
    is_end_sent: bool,
    /// What was handed out of the stream, and may come anew.
    taken: u32,
}

impl Copying {
    /// Has the guest begin, and says what is at the path.
    ///
    /// # Errors
    /// [`ContactError`]: what the guest refuses is [`ContactError::Refused`], see [`fault`].
    pub async fn begin(contact: Contact, request: &GuestCopy) -> Result<(Self, Stat), ContactError> {
        let GuestCopy { into, path, follow_link } = request.clone();
        let asked = CopyFiles { into, path, follow_link };
        let stat = match contact.request(asked, STAT_TIME_MAX).await? {
            Message::CopyStat(stat) => stat,
            other => return Err(LinkError::Unexpected(other.number()).into()),
        };
        let mut found = Stat::of_path(Path::new(&request.path), stat.exists, stat.is_directory);
        if request.into && !stat.is_directory && is_name(&stat.name) {
            // A link in the machine may lead to another name in it.
            found.name = stat.name.into();
        }
        let link = contact.into_link();
        let mut output_credit = Credit::default();
        if !request.into {
            output_credit.grant(OUTPUT_CREDIT).expect("it is less than may be outstanding");
            link.send(Link::REQUEST, Flags::NONE, &Window { bytes: OUTPUT_CREDIT }.into()).await?;
        }
        let copying = Self {
            link,
            credit: Credit::default(),
            output_credit,
            pending: Vec::new(),
            is_complete: false,
            is_end_sent: false,
            taken: 0,
        };
        Ok((copying, found))
    }

    /// Whether a piece can be taken by [`Self::put`].
    #[must_use]
    pub const fn wants_input(&self) -> bool {
        self.pending.is_empty() && !self.is_complete
    }

    /// Takes a piece of the stream, which [`Self::next`] sends as the guest allows. `None` says that it is complete.
    pub fn put(&mut self, piece: Option<Vec<u8>>) {
        match piece {
            Some(bytes) => self.pending.extend_from_slice(&bytes),
            None => self.is_complete = true,
        }
    }

    /// Has the guest stop: the stream ends before its end. What was unpacked is there.
    ///
    /// # Errors
    /// [`ContactError::Link`].
    pub async fn break_off(&self) -> Result<(), ContactError> {
        Ok(self.link.send(Link::REQUEST, Flags::NONE, &ExecSignal { number: libc::SIGKILL }.into()).await?)
    }

    /// Carries on until something comes. Cancel safe.
    ///
    /// # Errors
    /// [`ContactError`], after which nothing more comes.
    pub async fn next(&mut self) -> Result<CopyEvent, ContactError> {
        loop {
            let was_pending = !self.pending.is_empty();
            self.queue()?;
            self.link.flush().await?;
            if was_pending && self.pending.is_empty() {
                return Ok(CopyEvent::Taken);
            }
            match self.link.answer().await? {
                Message::Window(window) => {
                    let granted = self.credit.grant(window.bytes);
                    granted.map_err(|_| LinkError::Unexpected(Message::Window(window).number()))?;
                }
                Message::Stdout(piece) => {
                    let spent = self.output_credit.spend(piece.data.len());
                    spent.map_err(|_| LinkError::Unexpected(Message::from(piece.clone()).number()))?;
                    self.taken = u32::try_from(piece.data.len()).unwrap_or(u32::MAX);
                    return Ok(CopyEvent::Data(piece.data));
                }
                Message::CopyDone(done) => {
                    return Ok(CopyEvent::Done { files: done.files, bytes: done.bytes });
                }
                Message::Error(fault) => return Err(ContactError::Refused(contact::fit(fault))),
                other => return Err(LinkError::Unexpected(other.number()).into()),
            }
        }
    }

    /// Queues what may be sent, and gives back what was taken.
    fn queue(&mut self) -> Result<(), LinkError> {
        if self.taken > 0 {
            let window = Window { bytes: std::mem::take(&mut self.taken) };
            self.output_credit.grant(window.bytes).expect("what is given back was granted before");
            self.link.queue(Link::REQUEST, Flags::NONE, &window.into())?;
        }
        while !self.pending.is_empty() && self.credit.available() > 0 {
            let len = self.pending.len().min(self.credit.available()).min(INPUT_LEN_MAX);
            self.credit.spend(len).expect("no more than there is");
            let data = self.pending.drain(..len).collect();
            self.link.queue(Link::REQUEST, Flags::NONE, &Stdin { data }.into())?;
        }
        if self.is_complete && self.pending.is_empty() && !self.is_end_sent {
            self.is_end_sent = true;
            self.link.queue(Link::REQUEST, Flags::END_STREAM, &Stdin { data: Vec::new() }.into())?;
        }
        Ok(())
    }
}

/// Whose fault it is that a guest refused; `None` when the machine can't be spoken with.
#[must_use]
pub const fn fault(error: &ContactError) -> Option<Fault> {
    let ContactError::Refused(refusal) = error else { return None };
    Some(match refusal.code {
        ErrorCode::NO_SUCH_PATH => Fault::NotFound,
        ErrorCode::REFUSED => Fault::Mistake,
        ErrorCode::READ_ONLY => Fault::ReadOnly,
        ErrorCode::FULL => Fault::Full,
        ErrorCode::DENIED => Fault::Denied,
        ErrorCode::BROKEN_OFF => Fault::BrokenOff,
        _ => Fault::Other,
    })
}

/// Whether it is one name and nothing that leads elsewhere.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name != ".." && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests;
