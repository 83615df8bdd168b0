//! `/model`: the model of this session. `/models`: which there are.

use super::{Asked, Command, Fields, Outcome, stored};
use crate::tool::BoxFuture;
use crate::turn::chain;
use serde_json::Value;

/// Models of one page of a list.
const PAGE: usize = 20;

pub struct Model;

impl Command for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn help(&self) -> &'static str {
        "/model [name|number|list|default]: the model of this session"
    }

    fn run<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { Outcome::Reply(answer(asked).await) })
    }
}

async fn answer(asked: Asked<'_>) -> String {
    match asked.args {
        "" | "status" => shown(asked).await,
        "list" => list(asked, "", 1),
        "default" | "reset" | "clear" => {
            let fields = vec![
                ("modelOverride", Value::Null),
                ("providerOverride", Value::Null),
                ("authProfileOverride", Value::Null),
                ("authProfileOverrideSource", Value::Null),
            ];
            let default = default_model(asked);
            stored(asked, fields, format!("⚙️ The model is the default again: {default}.")).await
        }
        wanted => match choice(asked, wanted) {
            Ok((model, fields)) => {
                let reply = stored(asked, fields, format!("⚙️ Model set to {model}.")).await;
                asked.agent.notice(asked.session_key, format!("Model switched to {model}."));
                reply
            }
            Err(why) => format!("⚠️ {why}"),
        },
    }
}

/// What a name, a number of the list, or `name@profile` means: the model, and the fields of the entry.
fn choice(asked: Asked<'_>, wanted: &str) -> Result<(String, Fields), String> {
    let (name, profile) = match wanted.split_once('@') {
        Some((name, profile)) if !profile.is_empty() => (name, Some(profile)),
        _ => (wanted, None),
    };
    let name = match name.parse::<usize>() {
        Ok(number) => {
            let all = references(asked, "");
            let at = number.checked_sub(1).and_then(|at| all.get(at).cloned());
            at.ok_or_else(|| format!("there is no model {number}; /model list shows {}", all.len()))?
        }
        Err(_) => name.to_owned(),
    };
    let model = asked.active.models.permitted(&name).map_err(|error| error.to_string())?;
    let text = |value: Option<&str>| value.map_or(Value::Null, Into::into);
    let fields = vec![
        ("modelOverride", model.to_string().into()),
        ("providerOverride", Value::Null),
        ("authProfileOverride", text(profile)),
        ("authProfileOverrideSource", text(profile.map(|_| "user"))),
    ];
    Ok((model.to_string(), fields))
}

fn default_model(asked: Asked<'_>) -> String {
    let chain = asked.active.models.chain(None).unwrap_or_default();
    chain.first().map_or("none".to_owned(), ToString::to_string)
}

async fn shown(asked: Asked<'_>) -> String {
    let entry = asked.agent.sessions.entry(asked.session_key).await.ok().flatten().unwrap_or_default();
    let wish = chain::wish_of(None, None, &entry);
    let default = default_model(asked);
    let lines = match asked.active.models.chain(wish.as_deref()) {
        Ok(chain) => {
            let now = chain.first().map_or("none".to_owned(), ToString::to_string);
            let mut lines = vec![format!("🧠 Model: {now}")];
            if now != default {
                lines.push(format!("Default: {default}"));
            }
            let fallbacks: Vec<String> = chain.iter().skip(1).map(ToString::to_string).collect();
            if !fallbacks.is_empty() {
                lines.push(format!("When it fails: {}", fallbacks.join(", ")));
            }
            lines
        }
        Err(error) => vec![format!("⚠️ {error}")],
    };
    format!("{}\n/model list shows all, /model <name> switches.", lines.join("\n"))
}

fn references(asked: Asked<'_>, provider: &str) -> Vec<String> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let rows = asked.active.setup.models.rows(4, "default");
    let wanted = rows.iter().filter(|row| provider.is_empty() || row["provider"] == provider);
    wanted.map(|row| format!("{}/{}", text(row, "provider"), text(row, "id"))).collect()
}

/// One page of the numbered list.
fn list(asked: Asked<'_>, provider: &str, page: usize) -> String {
    let rows = asked.active.setup.models.rows(4, "default");
    let all: Vec<(usize, String)> = references(asked, "")
        .into_iter()
        .enumerate()
        .filter(|(_, model)| provider.is_empty() || model.split('/').next() == Some(provider))
        .collect();
    if all.is_empty() {
        return "⚠️ No model is known; set agents.defaults.model.".to_owned();
    }
    let pages = all.len().div_ceil(PAGE);
    let page = page.clamp(1, pages);
    let line = |(at, model): &(usize, String)| {
        let row = rows.get(*at);
        let alias = row.and_then(|row| row["alias"].as_str()).map(|alias| format!(" ({alias})"));
        let keyless = row.is_some_and(|row| row["available"] == false);
        let key = if keyless { " – no key" } else { "" };
        format!("{}. {model}{}{key}", at + 1, alias.unwrap_or_default())
    };
    let lines: Vec<String> = all.iter().skip((page - 1) * PAGE).take(PAGE).map(line).collect();
    let more = match pages {
        1 => String::new(),
        _ => format!(
            "\nPage {page} of {pages}: /models {provider}{}{}",
            if provider.is_empty() { "" } else { " " },
            page % pages + 1
        ),
    };
    format!("🧠 Models\n{}{more}\n/model <number> or /model <name> switches.", lines.join("\n"))
}

pub struct Models;

impl Command for Models {
    fn name(&self) -> &'static str {
        "models"
    }

    fn help(&self) -> &'static str {
        "/models [provider] [page]: which models there are"
    }

    fn run<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let mut words: Vec<&str> = asked.args.split_whitespace().collect();
            let page = words.last().and_then(|word| word.parse().ok());
            if page.is_some() {
                words.pop();
            }
            let provider = words.first().map(|word| word.to_lowercase()).unwrap_or_default();
            let known = asked.active.setup.models.provider_ids();
            if !provider.is_empty() && !known.contains(&provider) {
                return Outcome::Reply(format!(
                    "⚠️ There is no provider \"{provider}\". Known: {}.",
                    known.join(", ")
                ));
            }
            Outcome::Reply(list(asked, &provider, page.unwrap_or(1)))
        })
    }
}
