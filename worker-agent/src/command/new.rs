//! `/new [text]`: a new session.

use super::{Asked, Command, Outcome};
use crate::tool::BoxFuture;

pub struct New;

impl Command for New {
    fn name(&self) -> &'static str {
        "new"
    }

    fn help(&self) -> &'static str {
        "/new [model] [text]: start a new session"
    }

    fn run<'a>(&'a self, _asked: Asked<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { Outcome::NewSession { is_new: true } })
    }
}
