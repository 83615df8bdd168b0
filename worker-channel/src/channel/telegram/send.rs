//! Outbound: one method call each, its refusals sorted by what they mean for the row.

use reqwest::multipart::{Form, Part};
use serde_json::{Map, Value, json};

use super::api::{ApiError, Refusal};
use super::update::Message;
use super::{Telegram, to_html};
use crate::channel::{Body, SendFailure, Target};
use crate::text::{Styled, plain, utf16_len, utf16_prefix};

/// After a failure of the server's own (5xx).
const SERVER_ERROR_RETRY_MS: u64 = 2_000;

/// `123`, `-100…`, `@name`, also with a `telegram:` in front and `:topic:<n>` behind.
pub fn chat_and_thread(chat: &str) -> (&str, Option<&str>) {
    let mut id = chat.trim();
    for prefix in ["telegram:", "tg:", "group:"] {
        id = id.strip_prefix(prefix).unwrap_or(id);
    }
    match id.split_once(":topic:") {
        Some((id, thread)) => (id, Some(thread)),
        None => (id, None),
    }
}

/// Parameters that say where a message goes.
fn addressed(to: &Target) -> Map<String, Value> {
    let (chat, topic) = chat_and_thread(&to.chat);
    let mut params = Map::new();
    params.insert("chat_id".into(), chat.parse::<i64>().map_or_else(|_| json!(chat), |id| json!(id)));
    let thread = to.thread.as_deref().or(topic).and_then(|thread| thread.parse::<i64>().ok());
    // The General topic must not be named when sending.
    if let Some(thread) = thread.filter(|thread| *thread != 1) {
        params.insert("message_thread_id".into(), json!(thread));
    }
    if let Some(id) = to.reply_to.as_deref().and_then(|id| id.parse::<i64>().ok()) {
        // A message that was deleted meanwhile must not keep its answer from being sent.
        params.insert(
            "reply_parameters".into(),
            json!({"message_id": id, "allow_sending_without_reply": true}),
        );
    }
    params
}

pub async fn post(telegram: &Telegram, to: &Target, body: Body<'_>) -> Result<String, SendFailure> {
    let sent = match body {
        Body::Text(part) => {
            let mut params = addressed(to);
            with_preview(telegram, &mut params);
            formatted(telegram, "sendMessage", params, "text", part).await
        }
        Body::File { media, bytes, caption } => upload(telegram, to, media, bytes, caption).await,
    };
    let message: Message = sent.map_err(|error| match may_have_arrived(&error) {
        true => SendFailure::Unknown(error.to_string()),
        false => failure(telegram, error),
    })?;
    Ok(message.message_id.to_string())
}

pub async fn edit(telegram: &Telegram, to: &Target, ext_id: &str, part: &Styled) -> Result<(), SendFailure> {
    let Ok(id) = ext_id.parse::<i64>() else { return Err(SendFailure::Gone) };
    let mut params = Map::new();
    if let Some(chat) = addressed(to).remove("chat_id") {
        params.insert("chat_id".into(), chat);
    }
    params.insert("message_id".into(), json!(id));
    with_preview(telegram, &mut params);
    match formatted::<Value>(telegram, "editMessageText", params, "text", part).await {
        Ok(_) => Ok(()),
        Err(ApiError::Refused(refusal)) if refusal.says("message is not modified") => Ok(()),
        Err(ApiError::Refused(refusal))
            if refusal.says("message to edit not found") || refusal.says("message can't be edited") =>
        {
            Err(SendFailure::Gone)
        }
        Err(error) => Err(failure(telegram, error)),
    }
}

pub async fn remove(telegram: &Telegram, to: &Target, ext_id: &str) -> Result<(), SendFailure> {
    let (chat, _) = chat_and_thread(&to.chat);
    let Ok(id) = ext_id.parse::<i64>() else { return Ok(()) };
    match telegram.api.call::<Value>("deleteMessage", &json!({"chat_id": chat, "message_id": id})).await {
        Ok(_) => Ok(()),
        Err(ApiError::Refused(refusal)) if refusal.says("message to delete not found") => Ok(()),
        Err(error) => Err(failure(telegram, error)),
    }
}

pub async fn typing(telegram: &Telegram, to: &Target) -> Result<(), SendFailure> {
    let mut params = addressed(to);
    params.insert("action".into(), json!("typing"));
    telegram
        .api
        .call::<Value>("sendChatAction", &params)
        .await
        .map(drop)
        .map_err(|error| failure(telegram, error))
}

fn with_preview(telegram: &Telegram, params: &mut Map<String, Value>) {
    if !telegram.settings.link_preview {
        params.insert("link_preview_options".into(), json!({"is_disabled": true}));
    }
}

/// Sends text as HTML, and as plain text when the server cannot read the HTML: an answer without bold letters is
/// better than none. The refusal is certain to have sent nothing, so this is no repetition.
async fn formatted<T: serde::de::DeserializeOwned>(
    telegram: &Telegram,
    method: &str,
    mut params: Map<String, Value>,
    key: &str,
    part: &Styled,
) -> Result<T, ApiError> {
    params.insert(key.into(), json!(to_html(part)));
    params.insert("parse_mode".into(), json!("HTML"));
    match telegram.api.call(method, &params).await {
        Err(ApiError::Refused(refusal)) if refusal.says("can't parse entities") => {
            tracing::warn!(why = %refusal.description, "HTML refused, sent as plain text");
            params.remove("parse_mode");
            params.insert(key.into(), json!(plain_within(part, super::TEXT_UNITS_MAX)));
            telegram.api.call(method, &params).await
        }
        other => other,
    }
}

/// Plain text within the limit: written-out link targets may make it longer than the part was.
fn plain_within(part: &Styled, units_max: usize) -> String {
    let text = plain::render(part);
    if utf16_len(&text) <= units_max {
        return text;
    }
    let end = utf16_prefix(&part.text, units_max);
    part.text.get(..end).unwrap_or_default().to_owned()
}

async fn upload(
    telegram: &Telegram,
    to: &Target,
    media: &proto::wire::channel::MediaRef,
    bytes: Vec<u8>,
    caption: Option<&Styled>,
) -> Result<Message, ApiError> {
    let (method, field) =
        if media.kind == "image" { ("sendPhoto", "photo") } else { ("sendDocument", "document") };
    let form = |html: bool| {
        let mut form = Form::new();
        for (key, value) in addressed(to) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            form = form.text(key, text);
        }
        if let Some(caption) = caption {
            let text = if html { to_html(caption) } else { plain_within(caption, super::CAPTION_UNITS_MAX) };
            form = form.text("caption", text);
            if html {
                form = form.text("parse_mode", "HTML");
            }
        }
        let name = media.name.clone().unwrap_or_else(|| field.to_owned());
        let part = Part::bytes(bytes.clone()).file_name(name);
        form.part(field, part)
    };
    match telegram.api.upload(method, form(true)).await {
        Err(ApiError::Refused(refusal)) if caption.is_some() && refusal.says("can't parse entities") => {
            telegram.api.upload(method, form(false)).await
        }
        other => other,
    }
}

impl Refusal {
    fn says(&self, text: &str) -> bool {
        self.description.contains(text)
    }
}

/// Whether the server may have done what it did not confirm. The Bot API's own 5xx says that it did not; a gateway in between
/// cannot know, and a time-out on the way says nothing.
fn may_have_arrived(error: &ApiError) -> bool {
    match error {
        ApiError::Refused(refusal) => refusal.code == 504 || (refusal.code >= 500 && refusal.by_a_gateway),
        ApiError::Lost(_) | ApiError::Malformed(_) => true,
        ApiError::NotSent(_) => false,
    }
}

/// What an error means for a row that is being sent.
fn failure(telegram: &Telegram, error: ApiError) -> SendFailure {
    let why = error.to_string();
    let soon = telegram.settings.retry_min_delay_ms;
    match error {
        ApiError::NotSent(_) => SendFailure::Retry { after_ms: soon, why },
        ApiError::Lost(_) | ApiError::Malformed(_) => SendFailure::Unknown(why),
        ApiError::Refused(refusal) => match (refusal.code, refusal.retry_after_s) {
            (429, after) => SendFailure::Retry {
                after_ms: after.map_or(SERVER_ERROR_RETRY_MS, |s| s.saturating_mul(1000)),
                why,
            },
            (500.., _) => SendFailure::Retry { after_ms: SERVER_ERROR_RETRY_MS, why },
            // The token was taken back: the receiving loop sees it too and asks for a login.
            (401, _) => SendFailure::Retry { after_ms: SERVER_ERROR_RETRY_MS, why },
            _ => SendFailure::Permanent(why),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiError, Refusal, Target, addressed, chat_and_thread, may_have_arrived};
    use serde_json::json;

    #[test]
    fn only_the_bot_apis_own_refusal_is_certain_to_have_done_nothing() {
        let refused = |code: u16, by_a_gateway: bool| {
            let description = "x".to_owned();
            may_have_arrived(&ApiError::Refused(Refusal {
                code,
                description,
                retry_after_s: None,
                by_a_gateway,
            }))
        };
        assert!(!refused(400, false) && !refused(429, false) && !refused(500, false) && !refused(502, false));
        assert!(!refused(413, true), "refused before it was passed on");
        assert!(refused(502, true) && refused(504, true) && refused(504, false));
    }

    #[test]
    fn targets_are_read_in_all_their_spellings() {
        assert_eq!(chat_and_thread("telegram:123"), ("123", None));
        assert_eq!(chat_and_thread("telegram:group:-1001:topic:5"), ("-1001", Some("5")));
        assert_eq!(chat_and_thread("@name"), ("@name", None));
    }

    #[test]
    fn the_general_topic_is_not_named_and_answers_survive_deletion() {
        let to = |thread: &str| Target {
            chat: "-1001".into(),
            thread: Some(thread.into()),
            reply_to: Some("7".into()),
        };
        let params = addressed(&to("1"));
        assert!(!params.contains_key("message_thread_id"));
        assert_eq!(params["reply_parameters"], json!({"message_id": 7, "allow_sending_without_reply": true}));
        assert_eq!(addressed(&to("5"))["message_thread_id"], 5);
    }
}
