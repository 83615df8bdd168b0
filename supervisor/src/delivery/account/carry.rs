//! One account's deliveries on their way from one program image to the next.

use super::{AccountTask, Facts};
use crate::delivery::carry::{CarriedAccount, CarriedRow};

impl AccountTask {
    pub(super) fn carry(&self) -> CarriedAccount {
        CarriedAccount {
            account: self.account.clone(),
            epoch: self.epoch,
            in_flight: self.in_flight.iter().map(|(id, facts)| (*id, facts.placeholder)).collect(),
            rows: self.in_flight.iter().map(|(id, facts)| facts.carry(*id)).collect(),
            drafts: self.drafts.iter().copied().collect(),
            owed: self.owed.clone(),
        }
    }

    pub(in crate::delivery) fn restore(&mut self, carried: CarriedAccount) {
        self.epoch = carried.epoch;
        let rows = carried.rows;
        let facts = |(id, placeholder)| {
            let row = rows.iter().find(|row| row.out_id == id).cloned().unwrap_or_default();
            let CarriedRow { text_first, asked, files, .. } = row;
            (id, Facts { placeholder, text_first, asked, files })
        };
        self.in_flight = carried.in_flight.into_iter().map(facts).collect();
        self.drafts = carried.drafts.into_iter().collect();
        self.owed = carried.owed;
    }
}

impl Facts {
    fn carry(&self, out_id: proto::wire::Id) -> CarriedRow {
        CarriedRow { out_id, text_first: self.text_first, asked: self.asked, files: self.files }
    }
}
