//! Who a process of the workload runs as, by the image's own account files.

use hypercore_model::user::{User, UserError};

use crate::inside;

/// Looks up `name|uid[:group|gid]`.
pub(crate) fn find(request: &str) -> Result<User, UserError> {
    User::lookup(request, &inside::read("/etc/passwd"), &inside::read("/etc/group"))
}
