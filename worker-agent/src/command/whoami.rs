//! `/whoami`: who the sender is, as the network tells it: for allow lists.

use super::{Asked, Command, Outcome};
use crate::tool::BoxFuture;

pub struct Whoami;

impl Command for Whoami {
    fn name(&self) -> &'static str {
        "whoami"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["id"]
    }

    fn help(&self) -> &'static str {
        "/whoami: your id, and where this is"
    }

    fn run<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let origin = &asked.spec.origin;
            let sender = asked.spec.inputs.first().and_then(|input| input.sender.as_ref());
            let account = origin.account.as_deref().map(|account| format!(":{account}")).unwrap_or_default();
            let facts = [
                ("Channel", Some(format!("{}{account}", origin.channel)).filter(|text| !text.is_empty())),
                ("Your id", sender.map(|sender| sender.id.clone())),
                ("Your name", sender.and_then(|sender| sender.name.clone())),
                (
                    "User name",
                    sender.and_then(|sender| sender.username.clone()).map(|name| format!("@{name}")),
                ),
                ("Chat", origin.chat.clone()),
                ("Topic", origin.thread.clone()),
                ("Session", Some(asked.session_key.to_owned())),
                ("Owner", Some(if origin.owner { "yes" } else { "no" }.to_owned())),
            ];
            let lines: Vec<String> =
                facts.into_iter().filter_map(|(name, fact)| Some(format!("{name}: {}", fact?))).collect();
            Outcome::Reply(format!("🧭 {}", lines.join("\n")))
        })
    }
}
