//! A life that another image of this program knew goes on under the rules of this one.

use super::{Lifecycle, Policy};
use proto::wire::handshake::WorkerKind;

impl Lifecycle {
    /// `kind` decides the limits of its restarts, which may have changed since.
    pub fn adopted(mut self, kind: WorkerKind, permanent: bool) -> Self {
        self.permanent = permanent;
        self.restarts.set_policy(Policy::of(kind));
        self
    }
}
