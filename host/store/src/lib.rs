//! Everything Postroom must not forget, in one SQLite file: journal, cursors, decisions, items, outbox, acknowledgements,
//! rule memory, generations, shadows and the ledger.
//!
//! One thread writes ([`Store`], async, durable when it returns); readers run concurrently ([`Reader`], blocking).
//!
//! ```text
//! journal ─→ pending ─→ commit ─→ decision + items + outbox + kv, acknowledgement due
//!                                             │                        │
//!                                  due_outbox / delivered       due_acks / acked
//! ```

mod error;
mod record;
mod sqlite;

pub use error::StoreError;
pub use sqlite::*;
