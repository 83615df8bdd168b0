//! The public voice of a run goes on in the next program image: no number twice, no text lost.

use super::Publisher;
use crate::scheduler::carry::CarriedVoice;

impl Publisher {
    pub fn carry(&self) -> CarriedVoice {
        CarriedVoice {
            session_id: self.session_id.as_deref().map(str::to_owned),
            seq: self.seq,
            attempt: self.attempt,
            before: self.before.clone(),
            message: self.message,
            current: self.current.clone(),
            thinking: self.thinking.clone(),
            ending: self.ending.as_ref().map(ToString::to_string),
            replace: self.replace,
        }
    }

    /// Goes on where the image before stopped.
    pub fn restore(&mut self, voice: CarriedVoice) {
        self.session_id = voice.session_id.map(Into::into);
        (self.seq, self.attempt, self.message) = (voice.seq, voice.attempt, voice.message);
        (self.before, self.current, self.thinking) = (voice.before, voice.current, voice.thinking);
        self.ending = voice.ending.and_then(|text| serde_json::from_str(&text).ok());
        self.replace = voice.replace;
    }
}
