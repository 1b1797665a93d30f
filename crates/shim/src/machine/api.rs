//! What the clients of Firecracker and Cloud Hypervisor share: JSON over HTTP, and what an answer means. It refuses to
//! take an answer for done that doesn't say so.

use std::{
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    http::{self, Answer, HttpError, Method},
    vmm::VmmError,
};

/// Most of a refusal's words that are shown, in characters.
const REASON_LEN_MAX: usize = 1024;

/// How often is looked whether a monitor that was just started listens: it has no way to say so.
const LISTEN_INTERVAL: Duration = Duration::from_millis(2);

/// One monitor's API: its socket, and how it says why it refuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Api<'a> {
    /// Where it listens.
    pub(super) socket: &'a Path,
    /// What comes before each target.
    pub(super) prefix: &'static str,
    /// The words of a refusal's body.
    pub(super) reason: fn(&[u8]) -> Option<String>,
}

/// A request: what it is to do, in words, and how that is said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// Such as "boot the machine".
    pub(super) step: &'static str,
    pub(super) method: Method,
    /// The path below the prefix, such as `/vm`.
    pub(super) target: &'a str,
}

impl Api<'_> {
    /// Asks for what has no answer but that it was done.
    pub(super) fn order(&self, request: Request<'_>, deadline: Instant) -> Result<(), VmmError> {
        self.call(request, None, deadline).map(drop)
    }

    /// As [`Self::order`], with a body.
    pub(super) fn send(
        &self,
        request: Request<'_>,
        body: &impl Serialize,
        deadline: Instant,
    ) -> Result<(), VmmError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| VmmError::Garbled { step: request.step, problem: error.to_string() })?;
        self.call(request, Some(&body), deadline).map(drop)
    }

    /// Asks for something.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        request: Request<'_>,
        deadline: Instant,
    ) -> Result<T, VmmError> {
        let body = self.call(request, None, deadline)?;
        serde_json::from_slice(&body)
            .map_err(|error| VmmError::Garbled { step: request.step, problem: error.to_string() })
    }

    fn call(
        &self,
        request: Request<'_>,
        body: Option<&[u8]>,
        deadline: Instant,
    ) -> Result<Vec<u8>, VmmError> {
        let Request { step, method, target } = request;
        let target = format!("{}{target}", self.prefix);
        let answer = http::call(self.socket, method, &target, body, deadline);
        match answer.map_err(|error| failure(step, error))? {
            Answer { status: 200 | 204, body } => Ok(body),
            Answer { status, body } => {
                let said = (self.reason)(&body).map(|text| shown(&text)).filter(|text| !text.is_empty());
                let reason = said.map_or(format!("HTTP {status}"), |text| format!("{text} (HTTP {status})"));
                Err(VmmError::Refused { step, reason })
            }
        }
    }
}

/// The first answer of a monitor that was just started. That nobody listens is no answer, until it has ended or the
/// deadline passed.
pub(super) fn first_answer<T>(
    process: &mut Child,
    deadline: Instant,
    ask: impl Fn() -> Result<T, VmmError>,
) -> Result<T, VmmError> {
    loop {
        match ask() {
            Err(VmmError::Channel { .. })
                if Instant::now() < deadline && matches!(process.try_wait(), Ok(None)) =>
            {
                thread::sleep(LISTEN_INTERVAL);
            }
            answer => return answer,
        }
    }
}

fn failure(step: &'static str, error: HttpError) -> VmmError {
    match error {
        HttpError::Late => VmmError::Late { step },
        HttpError::Connect(_, source) | HttpError::Broken(source) => VmmError::Channel { step, source },
        HttpError::Cut => VmmError::Channel { step, source: std::io::ErrorKind::UnexpectedEof.into() },
        error @ (HttpError::Malformed | HttpError::TooLong { .. } | HttpError::NoLength) => {
            VmmError::Garbled { step, problem: error.to_string() }
        }
    }
}

/// A text in one line, without what a terminal would act on.
fn shown(text: &str) -> String {
    let clean = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(REASON_LEN_MAX).collect()
}
