//! The changes that commands make, each on its own connection.

use std::path::{Path, PathBuf};

use super::options::StoreOptions;
use super::{again, outbox_control, refusals, shadow};
use crate::ports::Control;
use crate::{
    DecisionId, MailChange, MailRequest, NewShadow, OutboxChange, OutboxSelection, Rollback,
    RolledBack, Shadow, ShadowId, ShadowState, StoreError,
};

/// Works with or without a running service.
pub struct SqliteControl {
    data_dir: PathBuf,
    options: StoreOptions,
}

impl SqliteControl {
    /// Creates the control. Opens nothing yet.
    pub fn new(data_dir: &Path, options: &StoreOptions) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            options: options.clone(),
        }
    }
}

impl Control for SqliteControl {
    fn retry_outbox(
        &self,
        wanted: &OutboxSelection,
    ) -> Result<Vec<(i64, OutboxChange)>, StoreError> {
        outbox_control::retry_outbox(&self.data_dir, wanted, &self.options)
    }

    fn drop_outbox(
        &self,
        ids: &[i64],
        by: &str,
        reason: Option<&str>,
    ) -> Result<Vec<(i64, OutboxChange)>, StoreError> {
        outbox_control::drop_outbox(&self.data_dir, ids, by, reason, &self.options)
    }

    fn change_mail(
        &self,
        id: DecisionId,
        request: MailRequest,
        by: &str,
        reason: Option<&str>,
    ) -> Result<MailChange, StoreError> {
        again::change_mail(&self.data_dir, id, request, by, reason, &self.options)
    }

    fn roll_back(&self, wanted: &Rollback) -> Result<RolledBack, StoreError> {
        refusals::roll_back(&self.data_dir, wanted, &self.options)
    }

    fn start_shadow(&self, new: &NewShadow) -> Result<Shadow, StoreError> {
        shadow::start_shadow(&self.data_dir, new, &self.options)
    }

    fn end_shadow(
        &self,
        id: ShadowId,
        state: ShadowState,
        reason: Option<&str>,
    ) -> Result<bool, StoreError> {
        shadow::end_shadow(&self.data_dir, id, state, reason, &self.options)
    }
}
