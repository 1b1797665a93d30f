//! One operation over the several workloads or images that a command names: at once, told in the order given,
//! and one that fails doesn't keep the others from being done.

use futures_util::{StreamExt as _, stream};
use hypercore_api::ApiError;
use serde::Serialize;

use crate::{console::Console, exit::Exit, failure::Outcome};

/// Operations under way at a time.
const CONCURRENT_MAX: usize = 16;

/// What was done, for programs.
#[derive(Debug, Serialize)]
struct Done {
    id: String,
}

/// Does `operation` to each target; it answers the target's full id. People see the target as they named it.
pub(super) async fn each<F>(console: &Console, targets: &[String], operation: F) -> Outcome
where
    F: AsyncFn(&str) -> Result<String, ApiError>,
{
    let operation = &operation;
    let attempts = targets.iter().map(|target| async move { (target, operation(target).await) });
    let mut results = stream::iter(attempts).buffered(CONCURRENT_MAX);
    let mut exit = Exit::Ok;
    let mut done = Vec::new();
    while let Some((target, result)) = results.next().await {
        match result {
            Ok(id) => {
                if console.is_for_people() {
                    console.line(target)?;
                }
                done.push(Done { id });
            }
            Err(error) => exit = exit.and(console.report(&error.into())),
        }
    }
    if !console.is_for_people() {
        console.structured(&done)?;
    }
    Ok(exit)
}
