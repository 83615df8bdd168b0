//! `/stop` with nothing to stop. A run under way is aborted by the supervisor, which never sends the word here.

use super::{Asked, Command, Outcome};
use crate::tool::BoxFuture;

pub struct Stop;

impl Command for Stop {
    fn name(&self) -> &'static str {
        "stop"
    }

    fn help(&self) -> &'static str {
        "/stop: stop what is running"
    }

    fn run<'a>(&'a self, _asked: Asked<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { Outcome::Reply("⚙️ Nothing was running.".into()) })
    }
}
