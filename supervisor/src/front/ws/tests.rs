use super::*;
use crate::front::accept::tests::Running;
use crate::front::caller::Caller;
use crate::front::outq::Out;
use serde_json::json;

/// What is queued for a client that was let in by the rules `admission`.
async fn queued(gw: &Handles, admission: String) -> Vec<Out> {
    let caller = Caller::local_operator("c".into(), 4, "cli");
    let conn = join(gw, Greeted { caller, response: "{}".into(), admission });
    conn.out.close(CloseWith::new(1000, "end of the test"));
    let mut all = Vec::new();
    while let Some(item) = conn.out.pop().await {
        all.push(item);
    }
    all
}

#[tokio::test]
async fn a_client_let_in_by_rules_that_changed_meanwhile_is_closed() {
    let front = Running::start(&json!({"gateway": {"auth": {"token": "a"}}}));
    let now = front.gw.front.settings().admission_digest();
    let same = queued(&front.gw, now).await;
    assert!(matches!(&same[..], [Out::Text(_), Out::Close(with)] if with.code == 1000), "{same:?}");
    let other = queued(&front.gw, "rules of before".into()).await;
    assert!(
        matches!(&other[..], [Out::Text(_), Out::Close(with)] if with.code == 1008 && with.reason == AUTH_CHANGED),
        "{other:?}"
    );
}
