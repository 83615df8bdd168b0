//! What each channel account last said of itself: written by the pump, read by `channels.status` and `/readyz`.

use crate::upgrade::state::CarriedChannel;
use proto::wire::channel::ChannelState;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows by `<channel>:<account>`. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ChannelBoard(Arc<Mutex<BTreeMap<String, ChannelFacts>>>);

#[derive(Clone, Debug, Default)]
pub struct ChannelFacts {
    pub state: Option<ChannelState>,
    pub connected_ms: Option<i64>,
    pub last_inbound_ms: Option<i64>,
    pub last_outbound_ms: Option<i64>,
}

impl ChannelBoard {
    /// Facts of one account; empty when it has said nothing.
    pub fn get(&self, account: &str) -> ChannelFacts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(account).cloned().unwrap_or_default()
    }

    /// For the next program image.
    pub fn carry(&self) -> Vec<CarriedChannel> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter()
            .map(|(account, facts)| CarriedChannel {
                account: account.clone(),
                state: facts.state.clone(),
                connected_ms: facts.connected_ms,
                last_inbound_ms: facts.last_inbound_ms,
                last_outbound_ms: facts.last_outbound_ms,
            })
            .collect()
    }

    /// Of the image before.
    pub fn restore(&self, carried: Vec<CarriedChannel>) {
        for CarriedChannel { account, state, connected_ms, last_inbound_ms, last_outbound_ms } in carried {
            self.change(&account, |facts| {
                *facts = ChannelFacts { state, connected_ms, last_inbound_ms, last_outbound_ms };
            });
        }
    }

    pub fn change(&self, account: &str, change: impl FnOnce(&mut ChannelFacts)) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(rows.entry(account.to_owned()).or_default());
    }
}
