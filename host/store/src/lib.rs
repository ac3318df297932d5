//! Everything that Postroom must not forget: journal, cursors, decisions, items, outbox, acknowledgements, rule memory,
//! generations, shadows and the ledger. Users depend on narrow ports; [`sqlite`] implements them in one file.
//!
//! ```text
//! journal ─→ pending ─→ commit ─→ decision + items + outbox + kv, acknowledgement due
//!                                             │                        │
//!                                  due_outbox / delivered       due_acks / acked
//! ```

mod error;
mod limits;
mod ports;
mod record;
pub mod sqlite;

pub use error::{DatabaseError, StoreError};
pub use limits::StoreLimits;
pub use ports::Store;
pub use ports::alert_watch::{AlertOutlets, AlertWatch, DueAlert, DueKind, ExpectationRow};
pub use ports::commits::{
    Commits, Committed, Conclusion, Facts, KvRead, KvWrite, LookupRead, Verdict,
};
pub use ports::configurations::{AppliedConfiguration, Configurations};
pub use ports::control::{
    Control, MailChange, MailRequest, NewShadow, OutboxChange, OutboxSelection, Rollback,
    RolledBack,
};
pub use ports::journal::{
    Ack, DecisionId, Journal, JournalBatch, JournalId, Journalled, NewMail, PendingMail, Suspect,
};
pub use ports::listings::{
    DecisionRow, EarlierDecision, Filter, LedgerRow, Listings, MailboxRow, OutboxDetail, OutboxRow,
    QuarantineRow, Quarantined, RepeatRow, Rows,
};
pub use ports::outbox::{Outbox, OutboxEntry, OutboxKind, RoundRobin};
pub use ports::records::{Evidence, Recorded, RecordedMail, RecordedMails, Records, Selection};
pub use ports::service_alerts::{FiringAlert, ServiceAlert, ServiceAlerts};
pub use ports::shadows::{
    Shadow, ShadowId, ShadowMail, ShadowOutcome, ShadowPage, ShadowResult, ShadowState, Shadows,
};
pub use ports::upkeep::Upkeep;
pub use ports::versions::{
    FileId, Generation, GenerationCause, LastGood, Mark, RefusedRule, RuleChange, RuleRecord,
    SenderKey, SentBack, StrikeRecord, Versions,
};
