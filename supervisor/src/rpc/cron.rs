//! `cron.status`, `cron.list`: this gateway runs no jobs, and says so in the shapes that pages and command lines read.

use super::params::Params;
use super::{Answer, RpcError};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use serde_json::{Value, json};

/// Jobs of one page when the caller names no number.
const PAGE_JOBS: u64 = 50;
/// Jobs of one page, as in the published schema.
const PAGE_JOBS_MAX: u64 = 200;
/// Revision of a list that never changes.
const EMPTY_REVISION: &str = "empty";

/// `cron.status {}`. `enabled` is whether jobs run here: they do not, whatever the configuration says.
///
/// # Errors
/// None.
pub async fn status(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    let config = gw.config.current();
    let store = config.config.pointer("/cron/store").and_then(Value::as_str);
    let store = match store {
        Some(path) => gw.config.paths().expand(path),
        None => gw.config.paths().state_dir.join("cron").join("jobs.json"),
    };
    Ok(json!({"enabled": false, "storePath": store, "jobs": 0, "nextWakeAtMs": null}).into())
}

/// `cron.list {limit?, offset?, …}`: an empty page.
///
/// # Errors
/// A limit outside 1 to 200.
pub async fn list(_gw: &Handles, caller: &Caller, params: Value) -> Answer {
    page(caller.protocol, &params).map(Into::into)
}

/// Command lines of protocol 4 check that a page agrees with the request and with itself.
fn page(protocol: u8, params: &Value) -> Result<Value, RpcError> {
    let read = Params::of("cron.list", params);
    let limit = match read.count("limit")? {
        Some(0) => return Err(read.refuse("at /limit: must be >= 1")),
        Some(limit) if limit > PAGE_JOBS_MAX => {
            return Err(read.refuse(&format!("at /limit: must be <= {PAGE_JOBS_MAX}")));
        }
        limit => limit.unwrap_or(PAGE_JOBS),
    };
    let offset = read.count("offset")?.unwrap_or(0);
    let mut page = json!({
        "jobs": [], "total": 0, "offset": offset, "limit": limit, "hasMore": false, "nextOffset": null,
    });
    if protocol >= 4 {
        page["snapshotRevision"] = EMPTY_REVISION.into();
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_agrees_with_its_request() {
        let asked = json!({"limit": 200, "offset": 20, "includeDisabled": true});
        let later = page(4, &asked).unwrap();
        assert_eq!((&later["limit"], &later["offset"]), (&json!(200), &json!(20)));
        assert_eq!(later["snapshotRevision"], "empty");
        let earlier = page(3, &json!({})).unwrap();
        assert_eq!(earlier["limit"], 50);
        assert!(earlier.get("snapshotRevision").is_none());
        assert_eq!(
            page(3, &json!({"limit": 201})).unwrap_err().message,
            "invalid cron.list params: at /limit: must be <= 200"
        );
    }
}
