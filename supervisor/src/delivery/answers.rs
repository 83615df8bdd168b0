//! Which message of a network a part answers. PURE. Whether a part that was not asked to answer anything does so is the
//! account's rule (`replyToMode`), which the channel's worker knows.

use proto::wire::agent::REPLY_TO_CURRENT;
use proto::wire::channel::ReplyReason;

/// See the module head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub reply_to: Option<String>,
    pub reply_reason: ReplyReason,
}

impl Answers {
    /// `asked`: what the text says; `current`: the message that started the run; `part`: its number in the run.
    pub fn of(asked: Option<&str>, current: Option<&str>, part: u32) -> Self {
        let first = if part == 0 { ReplyReason::First } else { ReplyReason::Later };
        let (reply_to, reply_reason) = match asked {
            Some(REPLY_TO_CURRENT) => (current, ReplyReason::Asked),
            Some(id) => (Some(id), ReplyReason::Asked),
            None => (current, first),
        };
        Self { reply_to: reply_to.map(str::to_owned), reply_reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_wins_the_word_is_resolved_and_the_rest_is_implied() {
        let of = |asked, current, part| {
            let Answers { reply_to, reply_reason } = Answers::of(asked, current, part);
            (reply_to, reply_reason)
        };
        let id = |id: &str| Some(id.to_owned());
        assert_eq!(of(Some("7"), Some("3"), 0), (id("7"), ReplyReason::Asked));
        assert_eq!(of(Some("current"), Some("3"), 4), (id("3"), ReplyReason::Asked));
        assert_eq!(of(Some("current"), None, 0), (None, ReplyReason::Asked));
        assert_eq!(of(None, Some("3"), 0), (id("3"), ReplyReason::First));
        assert_eq!(of(None, Some("3"), 1), (id("3"), ReplyReason::Later));
    }
}
