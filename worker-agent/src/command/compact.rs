//! `/compact [instructions]`: summarise the older part of this conversation now.

use super::{Asked, Command, Outcome};
use crate::tool::BoxFuture;

pub struct Compact;

impl Command for Compact {
    fn name(&self) -> &'static str {
        "compact"
    }

    fn help(&self) -> &'static str {
        "/compact [what matters]: summarise the older part of this conversation"
    }

    fn run<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { Outcome::Compact { wishes: asked.args.to_owned() } })
    }
}
