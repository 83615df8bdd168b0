//! Whether the file is what runs, in a word, in full and in one line.

use super::patch::summary;

/// Whether file and running gateway agree, for every place that must say so.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigState {
    /// `ok`, `pending` (valid edits wait for a restart), `invalid` (the file, or a section that a worker refuses) or
    /// `rolledBack` (the file was tried and taken back).
    pub state: &'static str,
    pub active_hash: String,
    pub file_hash: String,
    /// `file` or `lastGood`.
    pub source: &'static str,
    pub errors: Vec<String>,
    /// Keys whose new values wait for a restart.
    pub pending: Vec<String>,
    /// Unix milliseconds; absent while all is well.
    pub since_ms: Option<i64>,
    /// The running configuration is new and still watched.
    pub settling: bool,
}

impl ConfigState {
    /// The file says something else than what runs.
    #[must_use]
    pub fn diverges(&self) -> bool {
        self.state != "ok"
    }

    /// One line for people: `INVALID since 10:22 – openclaw.json:14:7 gateway.port: …; running lastGood …`.
    #[must_use]
    pub fn line(&self) -> String {
        let since = self.since_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let since =
            since.map(|time| time.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M").to_string());
        let since = since.map(|time| format!(" since {time}")).unwrap_or_default();
        let errors = |shows: &str| match self.errors.as_slice() {
            [first, _, ..] => format!("{first}, and {} more ({shows})", self.errors.len() - 1),
            one => one.concat(),
        };
        let short = self.active_hash.get(..6).unwrap_or("?");
        let instead = match self.source {
            "lastGood" => format!("running lastGood {short}, the copy that was kept of the last good one"),
            _ => format!("running what was read before ({short})"),
        };
        match self.state {
            "ok" => "ok".to_owned(),
            "pending" if self.pending.is_empty() => {
                format!("edited{since}, not applied yet; `openclaw restart` applies it")
            }
            "pending" => {
                let keys = summary(&self.pending);
                format!("edited{since}, waits for a restart ({keys}); `openclaw restart` applies it")
            }
            "rolledBack" => format!("ROLLED BACK{since} – {}; {instead}", errors("openclaw logs")),
            _ => format!("INVALID{since} – {}; {instead}", errors("openclaw config validate")),
        }
    }
}
