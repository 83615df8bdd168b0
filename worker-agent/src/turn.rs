//! A run: what happens between an accepted message and its answer. `state` decides the next step, `resume` where an
//! interrupted run goes on.

pub mod resume;
pub mod state;
