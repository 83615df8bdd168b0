//! What crosses a process: one module per noun.

mod telegram_double;
