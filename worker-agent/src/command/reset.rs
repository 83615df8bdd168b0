//! `/reset [text]`: a new session in place of this one.

use super::{Asked, Command, Outcome};
use crate::tool::BoxFuture;

pub struct Reset;

impl Command for Reset {
    fn name(&self) -> &'static str {
        "reset"
    }

    fn help(&self) -> &'static str {
        "/reset [text]: forget this conversation and start again"
    }

    fn run<'a>(&'a self, _asked: Asked<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { Outcome::NewSession { is_new: false } })
    }
}
