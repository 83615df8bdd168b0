//! What crosses a process: one module per noun.

mod channel_worker;
mod telegram_double;
