//! A run: what happens between an accepted message and its answer. `state` decides the next step, `resume` where an
//! interrupted run goes on; `driver` does what they say.

pub mod ask;
pub mod begin;
pub mod bounds;
pub mod call;
pub mod chain;
pub mod compact;
pub mod control;
pub mod driver;
pub mod events;
pub mod finish;
pub mod guard;
pub mod listen;
pub mod media;
pub mod payload;
pub mod prepare;
pub mod request;
pub mod resume;
pub mod source;
pub mod state;
pub mod stream_text;
pub mod tools;
pub mod upkeep;

#[cfg(test)]
mod compact_tests;
#[cfg(test)]
pub mod rig;
#[cfg(test)]
mod tests;
