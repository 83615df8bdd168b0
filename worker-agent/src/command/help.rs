//! `/help`: the commands of this build.

use super::{Asked, Command, Outcome, all};
use crate::tool::BoxFuture;

pub struct Help;

impl Command for Help {
    fn name(&self) -> &'static str {
        "help"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["commands"]
    }

    fn help(&self) -> &'static str {
        "/help: this list"
    }

    fn run<'a>(&'a self, _asked: Asked<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { Outcome::Reply(text()) })
    }
}

fn text() -> String {
    let lines: Vec<String> = all().iter().map(|command| format!("  {}", command.help())).collect();
    format!("ℹ️ Commands\n\n{}\n\nAnything else goes to the agent.", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn text() {
        insta::assert_snapshot!(super::text());
    }
}
