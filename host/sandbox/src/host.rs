//! The host functions of an instance: the mail, the log, settings, `kv` and `lookup`, each call within the limits and
//! before the deadline.

use std::sync::Arc;

use postroom_core as core;
use postroom_core::Message;
use wasmtime::component::Resource;

use crate::bindings::types::{
    self, Address, Attachment, Authentication, Captures, Classification, Field, PatternError,
    Verdict,
};
use crate::bindings::{kv, log, settings};
use crate::deadline::Deadline;
use crate::error::Stop;
use crate::log::Log;
use crate::lookup::{Lookup, LookupSession};
use crate::matching::{PatternCache, Patterns, field};
use crate::memory::{Kv, Memory};
use crate::meter::Meter;
use crate::rule::cut;
use crate::wasi::DeterministicWasi;
use postroom_core::{Grants, Limits};

/// Bytes of an attachment in one call, as specified in the contract.
const ATTACHMENT_CHUNK: usize = 1 << 20;
/// The positions kept of a decision's origin; the interpreter reports as many unless a script requests more.
const ORIGIN_PLACES: usize = 10;

/// The handle of the one mail of an instance; the mail itself is in [`Host`].
pub struct Mail;

/// The state shared by all instances of a rule.
pub(crate) struct Terms {
    /// The tenant of the rule; empty if it has none.
    pub(crate) tenant: String,
    pub(crate) name: String,
    /// One JSON object.
    pub(crate) settings: String,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    pub(crate) patterns: PatternCache,
}

/// The host's side of one instance.
pub(crate) struct Host {
    pub(crate) terms: Arc<Terms>,
    /// `None` while a component starts, since there is no mail yet.
    mail: Option<Arc<Message>>,
    /// RFC 3339.
    pub(crate) now: String,
    pub(crate) deadline: Deadline,
    pub(crate) meter: Meter,
    pub(crate) log: Log,
    pub(crate) memory: Memory,
    pub(crate) inquiry: LookupSession,
    /// See [`crate::Run::decided_at`].
    pub(crate) decided_at: Option<Vec<String>>,
    patterns: Patterns,
    wasi: Option<Box<DeterministicWasi>>,
}

impl Host {
    pub(crate) fn new(
        terms: Arc<Terms>,
        mail: Option<Arc<Message>>,
        now: String,
        deadline: Deadline,
        kv: Arc<dyn Kv>,
        lookup: Arc<dyn Lookup>,
    ) -> Self {
        let meter = Meter::new(terms.limits.memory_bytes.min(Limits::MOST_MEMORY));
        let log = Log::new(terms.limits.log_bytes);
        Self {
            terms,
            mail,
            now,
            deadline,
            meter,
            log,
            memory: Memory::new(kv),
            inquiry: LookupSession::new(lookup),
            decided_at: None,
            patterns: Patterns::default(),
            wasi: None,
        }
    }

    /// Returns the environment without files, network or time, created when a component first uses it.
    pub(crate) fn still(&mut self) -> &mut DeterministicWasi {
        self.wasi.get_or_insert_with(|| {
            let seed = self.mail.as_ref().map_or("", |mail| &mail.message_id);
            Box::new(DeterministicWasi::new(&self.now, seed, &self.log))
        })
    }

    /// Records the origin of a decision, as the script engine reports it.
    pub(crate) fn note_origin(&mut self, mut path: Vec<String>) -> Result<(), Stop> {
        self.enter()?;
        path.truncate(ORIGIN_PLACES);
        self.decided_at = Some(path.into_iter().map(cut).collect());
        Ok(())
    }

    /// Begins every host call of an instance by checking the deadline: epochs do not interrupt the host.
    pub(crate) fn enter(&self) -> Result<(), Stop> {
        match self.deadline.is_over() {
            true => Err(Stop::Deadline),
            false => Ok(()),
        }
    }

    fn mail(&self) -> Result<&Arc<Message>, Stop> {
        self.enter()?;
        self.mail
            .as_ref()
            .ok_or_else(|| Stop::TopLevel("the mail".into()))
    }

    fn kv(&self) -> Result<(), Stop> {
        self.enter()?;
        match self.terms.grants.kv {
            true => Ok(()),
            false => Err(Stop::NotGranted("kv")),
        }
    }

    fn search(
        &mut self,
        of: &Field,
        pattern: &str,
        most: usize,
    ) -> Result<Result<Vec<Captures>, PatternError>, Stop> {
        let mail = self.mail()?.clone();
        let limits = &self.terms.limits;
        let pattern = match self.patterns.pattern(pattern, &self.terms.patterns, limits) {
            Ok(pattern) => pattern,
            Err(refused) => return Ok(Err(refused)),
        };
        self.enter()?;
        pattern.search(&field(&mail, of), most, limits, self.deadline)
    }
}

impl types::Host for Host {}

impl types::HostMessage for Host {
    fn subject(&mut self, _: Resource<Mail>) -> wasmtime::Result<String> {
        Ok(self.mail()?.subject.clone())
    }

    fn from(&mut self, _: Resource<Mail>) -> wasmtime::Result<Option<Address>> {
        Ok(self.mail()?.from.as_ref().map(address))
    }

    fn to(&mut self, _: Resource<Mail>) -> wasmtime::Result<Vec<Address>> {
        Ok(self.mail()?.to.iter().map(address).collect())
    }

    fn cc(&mut self, _: Resource<Mail>) -> wasmtime::Result<Vec<Address>> {
        Ok(self.mail()?.cc.iter().map(address).collect())
    }

    fn reply_to(&mut self, _: Resource<Mail>) -> wasmtime::Result<Vec<Address>> {
        Ok(self.mail()?.reply_to.iter().map(address).collect())
    }

    fn date(&mut self, _: Resource<Mail>) -> wasmtime::Result<Option<String>> {
        Ok(self.mail()?.date.clone())
    }

    fn message_id(&mut self, _: Resource<Mail>) -> wasmtime::Result<String> {
        Ok(self.mail()?.message_id.clone())
    }

    fn text(&mut self, _: Resource<Mail>) -> wasmtime::Result<String> {
        Ok(self.mail()?.text.clone())
    }

    fn html(&mut self, _: Resource<Mail>) -> wasmtime::Result<Option<String>> {
        Ok(self.mail()?.html.clone())
    }

    fn reply(&mut self, _: Resource<Mail>) -> wasmtime::Result<String> {
        Ok(self.mail()?.reply.clone())
    }

    fn headers(&mut self, _: Resource<Mail>, name: String) -> wasmtime::Result<Vec<String>> {
        Ok(self.mail()?.headers(&name).map(str::to_owned).collect())
    }

    fn attachments(&mut self, _: Resource<Mail>) -> wasmtime::Result<Vec<Attachment>> {
        let described = |attachment: &core::Attachment| Attachment {
            name: attachment.name.clone(),
            content_type: attachment.content_type.clone(),
            size: attachment.bytes.len() as u64,
            inline: attachment.inline,
            content_id: attachment.content_id.clone(),
        };
        Ok(self.mail()?.attachments.iter().map(described).collect())
    }

    fn attachment_bytes(
        &mut self,
        _: Resource<Mail>,
        index: u32,
        offset: u64,
        length: u32,
    ) -> wasmtime::Result<Vec<u8>> {
        let mail = self.mail()?;
        let bytes = attachment(mail, index).map_or(&[][..], |found| &found.bytes);
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..))
            .unwrap_or_default();
        let length = rest.len().min(length as usize).min(ATTACHMENT_CHUNK);
        Ok(rest[..length].to_vec())
    }

    fn attachment_text(&mut self, _: Resource<Mail>, index: u32) -> wasmtime::Result<String> {
        Ok(
            attachment(self.mail()?, index).map_or_else(String::new, |attachment| {
                let charset = attachment.charset.as_deref();
                core::parse::text_of(&attachment.bytes, charset, ATTACHMENT_CHUNK)
            }),
        )
    }

    fn classification(&mut self, _: Resource<Mail>) -> wasmtime::Result<Classification> {
        Ok(match self.mail()?.classification {
            core::Classification::Person => Classification::Person,
            core::Classification::AutoReply => Classification::AutoReply,
            core::Classification::Bounce => Classification::Bounce,
            core::Classification::List => Classification::List,
            core::Classification::Machine | core::Classification::Calendar => {
                Classification::Machine
            }
        })
    }

    fn authentication(&mut self, _: Resource<Mail>) -> wasmtime::Result<Authentication> {
        let said = self.mail()?.authentication;
        Ok(Authentication {
            spf: verdict(said.spf),
            dkim: verdict(said.dkim),
            dmarc: verdict(said.dmarc),
        })
    }

    fn repairs(&mut self, _: Resource<Mail>) -> wasmtime::Result<Vec<String>> {
        Ok(self.mail()?.repairs.clone())
    }

    fn match_(
        &mut self,
        _: Resource<Mail>,
        field: Field,
        pattern: String,
    ) -> wasmtime::Result<Result<Option<Captures>, PatternError>> {
        let found = self.search(&field, &pattern, 1)?;
        Ok(found.map(|mut found| found.pop()))
    }

    fn find_all(
        &mut self,
        _: Resource<Mail>,
        field: Field,
        pattern: String,
    ) -> wasmtime::Result<Result<Vec<Captures>, PatternError>> {
        let most = self.terms.limits.matches;
        Ok(self.search(&field, &pattern, most)?)
    }

    fn drop(&mut self, _: Resource<Mail>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl log::Host for Host {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.enter()?;
        let level = match level {
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warn => "warn",
            log::Level::Error => "error",
        };
        self.log.add(level, &message);
        Ok(())
    }
}

impl settings::Host for Host {
    fn all(&mut self) -> wasmtime::Result<String> {
        self.enter()?;
        Ok(self.terms.settings.clone())
    }
}

impl kv::Host for Host {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.kv()?;
        Ok(self.memory.get(key, &self.terms.limits)?)
    }

    fn set(&mut self, key: String, value: String) -> wasmtime::Result<Result<(), String>> {
        self.kv()?;
        Ok(self.memory.set(key, value, &self.terms.limits)?)
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        self.kv()?;
        Ok(self.memory.delete(key, &self.terms.limits)?)
    }
}

fn address(address: &core::Address) -> Address {
    Address {
        name: address.name.clone(),
        email: address.email.clone(),
    }
}

fn verdict(verdict: core::AuthVerdict) -> Verdict {
    match verdict {
        core::AuthVerdict::Pass => Verdict::Pass,
        core::AuthVerdict::Fail => Verdict::Fail,
        core::AuthVerdict::None => Verdict::None,
    }
}

fn attachment(mail: &Message, index: u32) -> Option<&core::Attachment> {
    mail.attachments.get(index as usize)
}
