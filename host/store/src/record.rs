//! The reasons of a decision as stored: everything listings show that no query needs to find.

use std::borrow::Cow;

use postroom_core::{Address, Decision};
use serde::{Deserialize, Serialize};

use crate::{KvRead, LookupRead};

#[derive(Serialize, Deserialize)]
pub(crate) struct Record<'a> {
    pub from: Option<Cow<'a, Address>>,
    pub subject: Cow<'a, str>,
    /// All but its outcome, which has a column of its own.
    #[serde(flatten)]
    pub decision: Cow<'a, Decision>,
    pub kv_reads: Cow<'a, [KvRead]>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub lookups: Cow<'a, [LookupRead]>,
}
