//! Sessions: what was said (`transcript`), what is known about each conversation (`store`), when one begins anew
//! (`reset`), and what of it clients (`history`) and models (`context`) see.
//!
//! This process is the only writer of both files. Which session a message belongs to is decided in the supervisor.

pub mod compaction;
pub mod context;
pub mod disk;
pub mod entry;
mod full_disk;
pub mod history;
pub mod message;
pub mod reset;
pub mod rewrite;
pub mod sessions;
pub mod store;
pub mod transcript;
pub mod visible;
