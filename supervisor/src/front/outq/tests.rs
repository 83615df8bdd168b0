use super::*;
use proptest::prelude::*;

fn event(size: usize, droppable: bool) -> Arc<Encoded> {
    Arc::new(Encoded { name: "chat", payload: Bytes::from(vec![b'0'; size]), version: None, droppable })
}

fn queue() -> (OutQueue, Arc<Budget>) {
    let budget = Arc::new(Budget::default());
    (OutQueue::new(budget.clone()), budget)
}

async fn drain(queue: &OutQueue) -> Vec<Out> {
    queue.close(CloseWith::new(1000, ""));
    let mut all = Vec::new();
    while let Some(item) = queue.pop().await {
        all.push(item);
    }
    all
}

#[tokio::test]
async fn a_slow_reader_misses_droppable_events_and_sees_the_gap() {
    let (queue, _) = queue();
    for _ in 0..OUT_QUEUE_ITEMS_SOFT {
        assert_eq!(queue.push_event(&event(1, true)), Pushed::Queued);
    }
    assert_eq!(queue.push_event(&event(1, true)), Pushed::Skipped);
    assert_eq!(queue.push_event(&event(1, false)), Pushed::Queued);
    let seqs: Vec<u64> = drain(&queue)
        .await
        .iter()
        .filter_map(|o| if let Out::Event(_, s) = o { Some(*s) } else { None })
        .collect();
    let n = OUT_QUEUE_ITEMS_SOFT as u64;
    assert_eq!(&seqs[seqs.len() - 2..], [n, n + 2]);
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut() {
    let (queue, budget) = queue();
    let big = event(OUT_QUEUE_BYTES_MAX / 4 + 1, false);
    for _ in 0..3 {
        assert_eq!(queue.push_event(&big), Pushed::Queued);
    }
    assert_eq!(queue.push_event(&big), Pushed::Closed);
    assert_eq!(queue.push_text("late"), Pushed::Closed);
    let rest = drain(&queue).await;
    assert!(matches!(rest.as_slice(), [Out::Close(c)] if c.code == 1008 && c.reason == "slow consumer"));
    assert!(!budget.exceeded());
    assert_eq!(budget.0.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn one_message_larger_than_the_limit_still_passes() {
    let (queue, _) = queue();
    assert_eq!(queue.push_text(vec![b'1'; OUT_QUEUE_BYTES_MAX + 1]), Pushed::Queued);
    assert_eq!(drain(&queue).await.len(), 2);
}

proptest! {
    #[test]
    fn the_budget_is_the_sum_of_what_waits(ops in proptest::collection::vec((0..4_u8, 0..5000_usize), 0..60)) {
        let (queue, budget) = queue();
        for (op, size) in ops {
            match op {
                0 => { queue.push_event(&event(size, true)); }
                1 => { queue.push_text(vec![b'1'; size]); }
                2 => queue.cut(CloseWith::new(1008, "x")),
                _ => {
                    let ready = queue.with(|s| !s.items.is_empty());
                    if ready {
                        let _ = futures_util::FutureExt::now_or_never(queue.pop());
                    }
                }
            }
            prop_assert_eq!(budget.0.load(Ordering::Relaxed), queue.bytes());
        }
        drop(queue);
        prop_assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
