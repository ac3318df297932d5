//! Implements the ports on SQLite: queries by tasks are moved off the runtime threads, writes go to the writer.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::lookup::{Query, QueryResult};
use postroom_core::{
    Alert, ContentHash, Cursor, EventKind, ItemSnapshot, MailboxState, Position, Receipt,
    ReopenPolicy, ThreadMethod, ThreadQuery, Threading,
};

use super::{SqliteReader, SqliteStore};
use crate::ports::{
    AlertWatch, Commits, Configurations, Facts, Journal, LastGood, Listings, Outbox, Records,
    ServiceAlerts, Shadows, Store, Upkeep, Versions,
};
use crate::{
    Ack, AlertOutlets, AppliedConfiguration, Committed, DecisionId, DecisionRow, DueAlert,
    EarlierDecision, Evidence, ExpectationRow, FileId, Filter, FiringAlert, Generation,
    GenerationCause, JournalBatch, JournalId, Journalled, LedgerRow, MailboxRow, OutboxDetail,
    OutboxEntry, OutboxKind, OutboxRow, PendingMail, QuarantineRow, Quarantined, RecordedMail,
    RecordedMails, RefusedRule, RepeatRow, RoundRobin, Rows, RuleRecord, Selection, SentBack,
    ServiceAlert, Shadow, ShadowId, ShadowMail, ShadowOutcome, ShadowPage, ShadowState, StoreError,
    StrikeRecord, Suspect, Verdict,
};

#[async_trait]
impl ServiceAlerts for SqliteStore {
    async fn set_alert(&self, change: ServiceAlert) -> Result<bool, StoreError> {
        self.write_service_alert(change).await
    }

    async fn firing_alerts(&self) -> Result<Vec<FiringAlert>, StoreError> {
        self.ask(|reader| reader.firing_service_alerts()).await
    }
}

#[async_trait]
impl AlertWatch for SqliteStore {
    async fn due_alerts(&self, limit: usize, skip: usize) -> Result<Vec<DueAlert>, StoreError> {
        let now_ms = self.now_ms();
        self.ask(move |reader| reader.due_alerts(limit, skip, now_ms))
            .await
    }

    async fn next_due_alert(&self) -> Result<Option<i64>, StoreError> {
        self.ask(|reader| reader.next_due_alert()).await
    }

    async fn apply_due_alert(
        &self,
        due: DueAlert,
        outlets: AlertOutlets,
    ) -> Result<Option<EventKind>, StoreError> {
        self.write_due_alert(due, outlets).await
    }
}

impl Store for SqliteStore {
    fn listings(&self) -> Arc<dyn Listings> {
        Arc::new(self.reader.clone())
    }
}

#[async_trait]
impl Journal for SqliteStore {
    async fn journal(&self, batch: JournalBatch) -> Result<Vec<Journalled>, StoreError> {
        self.write_journal(batch).await
    }

    async fn cursor(&self, mailbox: &str) -> Result<Option<Cursor>, StoreError> {
        let mailbox = mailbox.to_owned();
        self.ask(move |reader| reader.cursor(&mailbox)).await
    }

    async fn pending(&self, mailbox: &str, limit: usize) -> Result<Vec<PendingMail>, StoreError> {
        let mailbox = mailbox.to_owned();
        self.ask(move |reader| reader.pending(&mailbox, limit))
            .await
    }

    async fn pending_mail(&self, id: JournalId) -> Result<Option<PendingMail>, StoreError> {
        self.ask(move |reader| reader.pending_mail(id)).await
    }

    async fn suspects(&self, limit: usize) -> Result<Vec<Suspect>, StoreError> {
        self.ask(move |reader| reader.suspects(limit)).await
    }

    fn crashes(&self) -> u32 {
        self.crashes
    }

    async fn forget_crashes(&self) -> Result<(), StoreError> {
        self.write_no_crashes().await
    }

    async fn due_acks(
        &self,
        mailbox: &str,
        limit: usize,
        now_ms: i64,
    ) -> Result<Vec<Ack>, StoreError> {
        let mailbox = mailbox.to_owned();
        self.ask(move |reader| reader.due_acks(&mailbox, limit, now_ms))
            .await
    }

    async fn next_ack_due(&self, mailbox: &str) -> Result<Option<i64>, StoreError> {
        let mailbox = mailbox.to_owned();
        self.ask(move |reader| reader.next_ack_due(&mailbox)).await
    }

    async fn acked(&self, ids: Vec<i64>) -> Result<(), StoreError> {
        self.write_acked(ids).await
    }

    async fn ack_failed(
        &self,
        ids: Vec<i64>,
        error: &str,
        retry_at_ms: i64,
    ) -> Result<(), StoreError> {
        self.write_ack_failed(ids, error, retry_at_ms).await
    }

    async fn remember_positions(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<(), StoreError> {
        self.write_positions(mailbox, positions).await
    }

    async fn known_positions(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<HashSet<Position>, StoreError> {
        let mailbox = mailbox.to_owned();
        self.ask(move |reader| reader.known_positions(&mailbox, positions))
            .await
    }

    async fn known_position_count(&self, mailbox: &str) -> Result<u64, StoreError> {
        let mailbox = mailbox.to_owned();
        self.ask(move |reader| reader.known_position_count(&mailbox))
            .await
    }

    async fn forget_positions(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<(), StoreError> {
        self.erase_positions(mailbox, &positions).await
    }

    async fn forget_positions_but(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<(), StoreError> {
        self.erase_positions_but(mailbox, &positions).await
    }

    async fn mail_changes(&self) -> Result<i64, StoreError> {
        self.ask(SqliteReader::mail_changes).await
    }

    async fn adopt(&self, mailbox: &str, tenant: &str) -> Result<u64, StoreError> {
        self.write_adoption(mailbox, tenant).await
    }

    async fn attribute(&self, mails: Vec<(JournalId, String)>) -> Result<(), StoreError> {
        self.write_attribution(mails).await
    }

    async fn set_mailbox_state(
        &self,
        mailbox: &str,
        state: MailboxState,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.write_mailbox_state(mailbox, state, detail).await
    }
}

#[async_trait]
impl Commits for SqliteStore {
    async fn commit(&self, verdicts: Vec<Verdict>) -> Result<Vec<Committed>, StoreError> {
        self.write_verdicts(verdicts).await
    }

    async fn failed_attempt(&self, id: JournalId, error: &str) -> Result<u32, StoreError> {
        self.write_failed_attempt(id, error).await
    }

    async fn outbox_waiting_of(&self, tenant: &str) -> Result<u64, StoreError> {
        let tenant = tenant.to_owned();
        self.ask(move |reader| reader.outbox_waiting_of(&tenant))
            .await
    }
}

#[async_trait]
impl Outbox for SqliteStore {
    async fn due_outbox(
        &self,
        kind: OutboxKind,
        target: &str,
        now_ms: i64,
        limit: usize,
        turn: RoundRobin,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let target = target.to_owned();
        self.ask(move |reader| reader.due_outbox(kind, &target, now_ms, limit, &turn))
            .await
    }

    async fn next_outbox_due(
        &self,
        kind: OutboxKind,
        target: &str,
        after_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        let target = target.to_owned();
        self.ask(move |reader| reader.next_outbox_due(kind, &target, after_ms))
            .await
    }

    async fn outbox_changes(&self) -> Result<i64, StoreError> {
        self.ask(SqliteReader::outbox_changes).await
    }

    async fn outbox_waiting(&self) -> Result<u64, StoreError> {
        self.ask(SqliteReader::outbox_waiting).await
    }

    async fn outbox_waiting_by_target(&self) -> Result<Vec<(OutboxKind, String, u64)>, StoreError> {
        self.ask(SqliteReader::outbox_waiting_by_target).await
    }

    async fn forwarded(&self, mail: JournalId) -> Result<Option<Bytes>, StoreError> {
        self.ask(move |reader| reader.raw(mail)).await
    }

    async fn delivered(&self, id: i64, receipt: Receipt) -> Result<(), StoreError> {
        self.write_delivered(id, receipt).await
    }

    async fn partly_delivered(
        &self,
        id: i64,
        payload: String,
        receipt: &str,
        error: &str,
        retry_at_ms: i64,
    ) -> Result<(), StoreError> {
        self.write_partly_delivered(id, payload, receipt, error, retry_at_ms)
            .await
    }

    async fn refused(&self, id: i64, error: &str, retry_at_ms: i64) -> Result<(), StoreError> {
        self.write_refused(id, error, retry_at_ms).await
    }

    async fn gave_up(&self, id: i64, error: &str) -> Result<(), StoreError> {
        self.write_gave_up(id, error).await
    }

    async fn held_back(&self, id: i64, reason: &str) -> Result<(), StoreError> {
        self.write_held_back(id, reason).await
    }

    async fn cut_off(&self, id: i64, reason: &str) -> Result<(), StoreError> {
        self.write_cut_off(id, reason).await
    }
}

#[async_trait]
impl Versions for SqliteStore {
    async fn save_generation(
        &self,
        rules: Vec<RuleRecord>,
        unchanged: BTreeSet<String>,
        cause: GenerationCause,
    ) -> Result<u64, StoreError> {
        self.write_generation(rules, unchanged, cause).await
    }

    async fn newest_generation(&self) -> Result<u64, StoreError> {
        self.ask(SqliteReader::newest_generation).await
    }

    async fn good_before(
        &self,
        tenant: &str,
        name: &str,
        hash: &ContentHash,
    ) -> Result<Option<u64>, StoreError> {
        let (tenant, name, hash) = (tenant.to_owned(), name.to_owned(), *hash);
        self.ask(move |reader| reader.good_before(&tenant, &name, &hash))
            .await
    }

    async fn send_back(&self, rule: SentBack) -> Result<(), StoreError> {
        self.write_sent_back(rule).await
    }

    async fn report_rule(
        &self,
        tenant: &str,
        decision: DecisionId,
        alert: Alert,
        sinks: Vec<String>,
    ) -> Result<(), StoreError> {
        self.write_rule_alert(tenant.to_owned(), decision, alert, sinks)
            .await
    }

    async fn forgive(
        &self,
        tenant: &str,
        name: &str,
        alert_key: &str,
        sinks: Vec<String>,
    ) -> Result<(), StoreError> {
        self.write_forgiven(
            tenant.to_owned(),
            name.to_owned(),
            alert_key.to_owned(),
            sinks,
        )
        .await
    }

    async fn strikes(&self) -> Result<Vec<StrikeRecord>, StoreError> {
        self.ask(SqliteReader::strikes).await
    }

    async fn save_strikes(&self, all: Vec<StrikeRecord>) -> Result<(), StoreError> {
        self.write_strikes(all).await
    }

    async fn keep_file(&self, file: FileId, bytes: Bytes) -> Result<(), StoreError> {
        self.write_file(file, bytes).await
    }

    async fn forget_files_but(&self, files: Vec<FileId>) -> Result<(), StoreError> {
        self.delete_files_but(files).await
    }
}

#[async_trait]
impl Shadows for SqliteStore {
    async fn shadows(&self) -> Result<Vec<Shadow>, StoreError> {
        self.ask(SqliteReader::shadows).await
    }

    async fn active_shadows(&self) -> Result<Vec<Shadow>, StoreError> {
        self.ask(SqliteReader::active_shadows).await
    }

    async fn shadow(&self, id: ShadowId) -> Result<Option<Shadow>, StoreError> {
        self.ask(move |reader| reader.shadow(id)).await
    }

    async fn shadow_bytes(&self, id: ShadowId) -> Result<Option<Bytes>, StoreError> {
        self.ask(move |reader| reader.shadow_bytes(id)).await
    }

    async fn shadow_page(
        &self,
        shadow: &Shadow,
        reached: i64,
        limit: usize,
    ) -> Result<ShadowPage, StoreError> {
        let shadow = shadow.clone();
        self.ask(move |reader| reader.shadow_page(&shadow, reached, limit))
            .await
    }

    async fn record_shadow(
        &self,
        id: ShadowId,
        mails: Vec<ShadowMail>,
        reached: i64,
        then: ShadowOutcome,
    ) -> Result<Option<Shadow>, StoreError> {
        self.write_shadow(id, mails, reached, then).await
    }

    async fn end_shadow(
        &self,
        id: ShadowId,
        state: ShadowState,
        reason: Option<String>,
    ) -> Result<bool, StoreError> {
        self.write_shadow_end(id, state, reason).await
    }
}

#[async_trait]
impl Configurations for SqliteStore {
    async fn save_configuration(
        &self,
        files: BTreeMap<String, String>,
        changes_json: String,
    ) -> Result<u64, StoreError> {
        self.write_configuration(files, changes_json).await
    }
}

#[async_trait]
impl Upkeep for SqliteStore {
    async fn purge(&self, before_ms: i64) -> Result<u64, StoreError> {
        self.purge_steps(before_ms).await
    }

    async fn known_time(&self) -> Result<Option<i64>, StoreError> {
        self.ask(SqliteReader::known_time).await
    }

    async fn confirm_clock(&self, now_ms: i64) -> Result<(), StoreError> {
        self.write_clock(now_ms).await
    }

    async fn shift_due(&self, expected_ms: i64, by_ms: i64) -> Result<(), StoreError> {
        self.write_shift(expected_ms, by_ms).await
    }

    async fn bring_forward(&self, now_ms: i64) -> Result<u64, StoreError> {
        self.write_forward(now_ms).await
    }

    async fn undecided(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let mailboxes = self.ask(SqliteReader::mailboxes).await?;
        let waiting = mailboxes.into_iter().filter(|row| row.pending > 0);
        Ok(waiting.map(|row| (row.mailbox, row.pending)).collect())
    }

    async fn unacknowledged(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let mailboxes = self.ask(SqliteReader::mailboxes).await?;
        let owing = mailboxes.into_iter().filter(|row| row.unacknowledged > 0);
        Ok(owing.map(|row| (row.mailbox, row.unacknowledged)).collect())
    }

    async fn close(&self) {
        let (reader, writer) = (self.reader.clone(), self.writer.clone());
        let closing = tokio::task::spawn_blocking(move || {
            reader.release();
            writer.close();
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "the store was not closed");
        }
    }
}

/// Implements the blocking ports with the reader's own queries.
macro_rules! questions {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
            SqliteReader::$name(self, $($argument),*)
        }
    )*};
}

impl Facts for SqliteReader {
    questions! {
        thread(tenant: &str, query: &ThreadQuery, reopen: &ReopenPolicy, now_ms: i64) -> Threading;
        ticket_tenant(query: &ThreadQuery, methods: &[ThreadMethod]) -> Option<String>;
        earlier_texts(tenant: &str, ticket: &str) -> Vec<String>;
        ticket_exists(tenant: &str, ticket: &str) -> bool;
        kv(tenant: &str, rule: &str, key: &str) -> Option<String>;
        kv_usage(tenant: &str, rule: &str) -> (u64, u64);
        first_copy(tenant: &str, marks: &[ContentHash], confirmed: bool, received_ms: i64) -> Option<DecisionId>;
        lookup(tenant: &str, question: &Query, most: usize) -> QueryResult;
    }
}

impl LastGood for SqliteReader {
    questions! {
        refused_rules() -> Vec<RefusedRule>;
        last_good(tenant: &str, name: &str) -> Option<RuleRecord>;
        good_before(tenant: &str, name: &str, hash: &ContentHash) -> Option<u64>;
        kept_file(file: &FileId) -> Option<Vec<u8>>;
        kept_file_hash(file: &FileId) -> Option<ContentHash>;
    }
}

impl Records for SqliteReader {
    questions! {
        recorded(selection: &Selection) -> Box<dyn RecordedMails>;
        recorded_mail(id: DecisionId) -> Option<RecordedMail>;
        evidence(id: DecisionId) -> Option<Evidence>;
    }
}

impl Listings for SqliteReader {
    questions! {
        decisions(filter: &Filter) -> Rows<DecisionRow>;
        decision(id: DecisionId) -> Option<DecisionRow>;
        items(filter: &Filter) -> Rows<ItemSnapshot>;
        expectations() -> Vec<ExpectationRow>;
        outbox(filter: &Filter) -> Rows<OutboxRow>;
        earlier_decisions(id: DecisionId) -> Vec<EarlierDecision>;
        deliveries(decision: DecisionId) -> Vec<OutboxRow>;
        outbox_entry(id: i64) -> Option<OutboxDetail>;
        quarantine(filter: &Filter) -> Rows<QuarantineRow>;
        quarantined(id: DecisionId) -> Option<Quarantined>;
        mailboxes() -> Vec<MailboxRow>;
        ledger(filter: &Filter) -> Vec<LedgerRow>;
        repeats(filter: &Filter) -> Vec<RepeatRow>;
        raw(id: JournalId) -> Option<Bytes>;
        newest_generation() -> u64;
        generations(limit: Option<usize>) -> Vec<Generation>;
        generation_rules(number: u64) -> Option<Vec<RuleRecord>>;
        partly_kept(number: u64) -> Vec<String>;
        shadows() -> Vec<Shadow>;
        shadow(id: ShadowId) -> Option<Shadow>;
        shadow_of(mailbox: &str) -> Option<Shadow>;
        shadow_bytes(id: ShadowId) -> Option<Bytes>;
        shadow_mails(id: ShadowId) -> Vec<ShadowMail>;
        configurations(limit: Option<usize>) -> Vec<AppliedConfiguration>;
        configuration_files(number: u64) -> Option<BTreeMap<String, String>>;
    }
}
