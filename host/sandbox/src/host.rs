//! The host functions of an instance: the mail, the log, settings, `kv` and `lookup`, each call within the limits and
//! before the deadline.

use std::sync::Arc;

use postroom_core as core;
use postroom_core::hours;
use postroom_core::{Message, ParseLimits};
use wasmtime::component::Resource;

use crate::bindings::types::{
    self, Address, Attachment, Authentication, Calendar, Captures, Classification, DeliveryReport,
    Field, Link, PatternError, Verdict,
};
use crate::bindings::{kv, log, settings, zones};
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

/// The mails that one decision may open beside its own: forwarded ones and those in attachments. More are not opened.
const OPENED_MAILS: usize = 16;

/// The handle of a mail; the mail itself is in [`Host`], under the number that the handle represents.
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
    /// The mail that is decided, then those that the rule opened. Empty while a component starts, since there is no mail yet.
    mails: Vec<Opened>,
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

/// A mail, with the mails that were opened from it, so that each is opened once.
struct Opened {
    mail: Arc<Message>,
    /// The number of the mail, or `None` if there is none, by its place: in an attachment, or forwarded inline.
    inner: Vec<(Place, Option<u32>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Forwarded,
    Attached(u32),
}

impl Opened {
    fn new(mail: Arc<Message>) -> Self {
        Self {
            mail,
            inner: Vec::new(),
        }
    }
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
            mails: mail.map(Opened::new).into_iter().collect(),
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
            let seed = self.mails.first().map_or("", |it| &it.mail.message_id);
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

    fn mail(&self, handle: &Resource<Mail>) -> Result<&Arc<Message>, Stop> {
        self.enter()?;
        self.mails
            .get(handle.rep() as usize)
            .map(|opened| &opened.mail)
            .ok_or_else(|| Stop::TopLevel("the mail".into()))
    }

    /// Returns the mail within a mail, opened when it is first requested.
    fn inner(
        &mut self,
        handle: &Resource<Mail>,
        place: Place,
    ) -> Result<Option<Resource<Mail>>, Stop> {
        let mail = self.mail(handle)?.clone();
        let outer = handle.rep() as usize;
        let known = self.mails[outer].inner.iter().find(|(at, _)| *at == place);
        let number = match known {
            Some((_, number)) => *number,
            None => {
                let found = if self.mails.len() <= OPENED_MAILS {
                    match place {
                        Place::Forwarded => core::forwarded(&mail, &ParseLimits::default()),
                        Place::Attached(index) => attachment(&mail, index)
                            .and_then(|part| core::attached_mail(part, &ParseLimits::default())),
                    }
                } else {
                    None
                };
                let number = found.map(|found| {
                    self.mails.push(Opened::new(Arc::new(found)));
                    u32::try_from(self.mails.len() - 1).unwrap_or(u32::MAX)
                });
                self.mails[outer].inner.push((place, number));
                number
            }
        };
        Ok(number.map(Resource::new_own))
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
        handle: &Resource<Mail>,
        of: &Field,
        pattern: &str,
        most: usize,
    ) -> Result<Result<Vec<Captures>, PatternError>, Stop> {
        let mail = self.mail(handle)?.clone();
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
    fn subject(&mut self, mail: Resource<Mail>) -> wasmtime::Result<String> {
        Ok(self.mail(&mail)?.subject.clone())
    }

    fn from(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Option<Address>> {
        Ok(self.mail(&mail)?.from.as_ref().map(address))
    }

    fn to(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Vec<Address>> {
        Ok(self.mail(&mail)?.to.iter().map(address).collect())
    }

    fn cc(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Vec<Address>> {
        Ok(self.mail(&mail)?.cc.iter().map(address).collect())
    }

    fn reply_to(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Vec<Address>> {
        Ok(self.mail(&mail)?.reply_to.iter().map(address).collect())
    }

    fn date(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Option<String>> {
        Ok(self.mail(&mail)?.date.clone())
    }

    fn message_id(&mut self, mail: Resource<Mail>) -> wasmtime::Result<String> {
        Ok(self.mail(&mail)?.message_id.clone())
    }

    fn text(&mut self, mail: Resource<Mail>) -> wasmtime::Result<String> {
        Ok(self.mail(&mail)?.text.clone())
    }

    fn html(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Option<String>> {
        Ok(self.mail(&mail)?.html.clone())
    }

    fn reply(&mut self, mail: Resource<Mail>) -> wasmtime::Result<String> {
        Ok(self.mail(&mail)?.reply.clone())
    }

    fn headers(&mut self, mail: Resource<Mail>, name: String) -> wasmtime::Result<Vec<String>> {
        Ok(self
            .mail(&mail)?
            .headers(&name)
            .map(str::to_owned)
            .collect())
    }

    fn attachments(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Vec<Attachment>> {
        let described = |attachment: &core::Attachment| Attachment {
            name: attachment.name.clone(),
            content_type: attachment.content_type.clone(),
            size: attachment.bytes.len() as u64,
            inline: attachment.inline,
            content_id: attachment.content_id.clone(),
            is_mail: attachment.is_mail(),
        };
        Ok(self
            .mail(&mail)?
            .attachments
            .iter()
            .map(described)
            .collect())
    }

    fn attachment_bytes(
        &mut self,
        mail: Resource<Mail>,
        index: u32,
        offset: u64,
        length: u32,
    ) -> wasmtime::Result<Vec<u8>> {
        let bytes = attachment(self.mail(&mail)?, index).map_or(&[][..], |found| &found.bytes);
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..))
            .unwrap_or_default();
        let length = rest.len().min(length as usize).min(ATTACHMENT_CHUNK);
        Ok(rest[..length].to_vec())
    }

    fn attachment_text(&mut self, mail: Resource<Mail>, index: u32) -> wasmtime::Result<String> {
        Ok(
            attachment(self.mail(&mail)?, index).map_or_else(String::new, |attachment| {
                let charset = attachment.charset.as_deref();
                core::parse::text_of(&attachment.bytes, charset, ATTACHMENT_CHUNK)
            }),
        )
    }

    fn classification(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Classification> {
        Ok(match self.mail(&mail)?.classification {
            core::Classification::Person => Classification::Person,
            core::Classification::AutoReply => Classification::AutoReply,
            core::Classification::Bounce => Classification::Bounce,
            core::Classification::List => Classification::List,
            core::Classification::Machine => Classification::Machine,
            core::Classification::Calendar => Classification::Calendar,
        })
    }

    fn classification_reason(&mut self, mail: Resource<Mail>) -> wasmtime::Result<String> {
        Ok(self.mail(&mail)?.classification_reason.clone())
    }

    fn is_challenge(&mut self, mail: Resource<Mail>) -> wasmtime::Result<bool> {
        Ok(self.mail(&mail)?.challenge)
    }

    fn delivery(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Option<DeliveryReport>> {
        Ok(self.mail(&mail)?.delivery.as_ref().map(delivery))
    }

    fn calendar(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Option<Calendar>> {
        Ok(self.mail(&mail)?.calendar.as_ref().map(calendar))
    }

    fn links(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Vec<Link>> {
        let link = |link: core::Link| Link {
            text: link.text,
            url: link.url,
        };
        Ok(core::links(self.mail(&mail)?)
            .into_iter()
            .map(link)
            .collect())
    }

    fn pairs(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(core::pairs(self.mail(&mail)?))
    }

    fn reply_html(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Option<String>> {
        let html = core::reply_html(self.mail(&mail)?);
        Ok(html.map(|html| core::clean_html(&html)))
    }

    fn forwarded(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Option<Resource<Mail>>> {
        Ok(self.inner(&mail, Place::Forwarded)?)
    }

    fn attached_mail(
        &mut self,
        mail: Resource<Mail>,
        index: u32,
    ) -> wasmtime::Result<Option<Resource<Mail>>> {
        Ok(self.inner(&mail, Place::Attached(index))?)
    }

    fn authentication(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Authentication> {
        let said = self.mail(&mail)?.authentication;
        Ok(Authentication {
            spf: verdict(said.spf),
            dkim: verdict(said.dkim),
            dmarc: verdict(said.dmarc),
            arc: verdict(said.arc),
        })
    }

    fn repairs(&mut self, mail: Resource<Mail>) -> wasmtime::Result<Vec<String>> {
        Ok(self.mail(&mail)?.repairs.clone())
    }

    fn match_(
        &mut self,
        mail: Resource<Mail>,
        field: Field,
        pattern: String,
    ) -> wasmtime::Result<Result<Option<Captures>, PatternError>> {
        let found = self.search(&mail, &field, &pattern, 1)?;
        Ok(found.map(|mut found| found.pop()))
    }

    fn find_all(
        &mut self,
        mail: Resource<Mail>,
        field: Field,
        pattern: String,
    ) -> wasmtime::Result<Result<Vec<Captures>, PatternError>> {
        let most = self.terms.limits.matches;
        Ok(self.search(&mail, &field, &pattern, most)?)
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

impl zones::Host for Host {
    fn local(
        &mut self,
        time: String,
        zone: String,
    ) -> wasmtime::Result<Result<zones::LocalTime, String>> {
        self.enter()?;
        Ok(
            hours::local_time(&time, &zone).map(|local| zones::LocalTime {
                year: local.year.into(),
                month: local.month.unsigned_abs(),
                day: local.day.unsigned_abs(),
                hour: local.hour.unsigned_abs(),
                minute: local.minute.unsigned_abs(),
                second: local.second.unsigned_abs(),
                weekday: local.weekday.unsigned_abs(),
                offset_secs: local.offset_secs,
                iso: local.iso,
            }),
        )
    }

    fn open(
        &mut self,
        time: String,
        zone: String,
        hours: String,
    ) -> wasmtime::Result<Result<bool, String>> {
        self.enter()?;
        Ok(hours::is_open(&time, &zone, &hours))
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

fn delivery(report: &core::DeliveryReport) -> DeliveryReport {
    let recipient = |failed: &core::FailedRecipient| types::FailedRecipient {
        email: failed.email.clone(),
        status: failed.status.clone(),
        permanent: failed.permanent,
        diagnostic: failed.diagnostic.clone(),
    };
    DeliveryReport {
        recipients: report.recipients.iter().map(recipient).collect(),
        message_id: report.message_id.clone(),
    }
}

fn calendar(calendar: &core::Calendar) -> Calendar {
    let attendee = |attendee: &core::Attendee| types::Attendee {
        email: attendee.email.clone(),
        status: attendee.status.clone(),
    };
    Calendar {
        method: calendar.method.clone(),
        uid: calendar.uid.clone(),
        summary: calendar.summary.clone(),
        start: calendar.start.clone(),
        end: calendar.end.clone(),
        location: calendar.location.clone(),
        organizer: calendar.organizer.clone(),
        attendees: calendar.attendees.iter().map(attendee).collect(),
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
