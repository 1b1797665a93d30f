//! What each method of the API asks of its caller: one table, complete over the API's descriptors (a test sees to it).
//! It refuses nobody itself: handlers check further what depends on the request, such as a mount of the node's files.

use hypercore_model::Scope;

use Scope::{Admin, Read, Run};

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Rule {
    /// Nothing: anybody may ask.
    Open,
    /// A scope. Callers of one tenant see and touch their own: the handler finds workloads with the caller's eyes.
    Needs(Scope),
    /// A scope, and the whole node's view: what it is about belongs to no tenant.
    NeedsUnbound(Scope),
}

use Rule::{Needs, NeedsUnbound, Open};

/// The rule of a method, by the path that HTTP/2 has for it: `/package.Service/Method`.
pub(super) fn rule(path: &str) -> Option<Rule> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        "grpc.health.v1.Health" => health(method),
        "grpc.reflection.v1.ServerReflection" => Some(Needs(Read)),
        "hypercore.v1.ClusterService" => cluster(method),
        "hypercore.v1.ImageService" => image(method),
        "hypercore.v1.NodeService" => (method == "Info").then_some(Needs(Read)),
        "hypercore.v1.SnapshotService" => snapshot(method),
        "hypercore.v1.TokenService" => token(method),
        "hypercore.v1.VolumeService" => volume(method),
        _ => None,
    }
}

fn cluster(method: &str) -> Option<Rule> {
    Some(match method {
        "List" | "Inspect" | "Logs" | "Wait" | "Progress" | "Events" | "Stats" => Needs(Read),
        // Copying out of a workload opens its files, which is more than its output.
        "Spawn" | "Stop" | "Kill" | "Remove" | "Exec" | "Attach" | "Pause" | "Resume" | "Copy" => Needs(Run),
        // A snapshot holds the memory of what its tenant runs: who may execute in that may have it.
        "Snapshot" | "Restore" | "Fork" => Needs(Run),
        _ => return None,
    })
}

fn image(method: &str) -> Option<Rule> {
    Some(match method {
        "List" | "Verify" => Needs(Read),
        "Pull" => Needs(Run),
        // Images are every tenant's.
        "Remove" | "Prune" => NeedsUnbound(Run),
        // Reads files of the node, and credentials.
        "Import" | "Login" | "Logout" => NeedsUnbound(Admin),
        _ => return None,
    })
}

fn volume(method: &str) -> Option<Rule> {
    Some(match method {
        "List" | "Inspect" => NeedsUnbound(Read),
        "Create" | "Remove" => NeedsUnbound(Run),
        _ => return None,
    })
}

fn snapshot(method: &str) -> Option<Rule> {
    Some(match method {
        "List" => Needs(Read),
        "Remove" => Needs(Run),
        _ => return None,
    })
}

fn token(method: &str) -> Option<Rule> {
    matches!(method, "Create" | "List" | "Revoke").then_some(NeedsUnbound(Admin))
}

fn health(method: &str) -> Option<Rule> {
    match method {
        "Check" => Some(Open),
        // A stream that stays.
        "Watch" => Some(Needs(Read)),
        _ => None,
    }
}
