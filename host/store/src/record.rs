//! The reasons for a decision as stored: everything that listings show and no query needs to search.

use std::borrow::Cow;

use postroom_core::{Address, Decision};
use serde::{Deserialize, Serialize};

use crate::{KvRead, LookupRead};

#[derive(Serialize, Deserialize)]
pub(crate) struct Record<'a> {
    pub from: Option<Cow<'a, Address>>,
    pub subject: Cow<'a, str>,
    /// The decision without its outcome, which has a column of its own.
    #[serde(flatten)]
    pub decision: Cow<'a, Decision>,
    pub kv_reads: Cow<'a, [KvRead]>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub lookups: Cow<'a, [LookupRead]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Cow<'a, str>>,
}
