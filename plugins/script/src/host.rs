//! The functions from which the prelude builds the script's API: each calls the host for one property of the mail.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

use rquickjs::function::IntoJsFunc;
use rquickjs::{
    Array, Ctx, Exception, FromJs, Function, IntoJs, Object, Result, TypedArray, Value,
};

use crate::bindings::postroom::plugin::types::{
    Address, Captures, Classification, Client, Field, Message, PatternError, Thread, Verdict,
};
use crate::bindings::postroom::plugin::{engine, kv, log, settings, zones};
use crate::pattern::translate;
use crate::{answer, clock, details, inquiries, layout};

/// The most matches that JavaScript's own `findAll` returns; the host caps its own.
pub const MAX_MATCHES: usize = 1000;

thread_local! {
    static MAIL: Cell<Option<NonNull<Message>>> = const { Cell::new(None) };
    /// The mails that were opened from it. A script knows them by their number, from 1; the mail itself is 0.
    static OPENED: RefCell<Vec<Message>> = const { RefCell::new(Vec::new()) };
    /// The tenant of the mail.
    static TENANT: RefCell<String> = const { RefCell::new(String::new()) };
    /// The labels of a mail with their values, once a script has asked for one.
    static PAIRS: RefCell<Option<LabelsOfMail>> = const { RefCell::new(None) };
    static TRAITS: RefCell<Vec<Trait>> = const { RefCell::new(Vec::new()) };
}

/// A mail's number, and its labels with their values.
type LabelsOfMail = (u32, Vec<(String, String)>);

/// The result of a check on the text of a mail's field.
struct Trait {
    mail: u32,
    field: String,
    pattern: &'static str,
    found: bool,
}

/// Gives the functions access to a mail until the loan is dropped.
pub fn lend<'m>(message: &'m Message, tenant: &str) -> Loan<'m> {
    MAIL.set(Some(NonNull::from(message)));
    TENANT.set(tenant.to_owned());
    TRAITS.with_borrow_mut(Vec::clear);
    PAIRS.set(None);
    Loan { _message: message }
}

pub struct Loan<'a> {
    _message: &'a Message,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        OPENED.with_borrow_mut(Vec::clear);
        MAIL.set(None);
    }
}

/// Returns an object with every function of the host.
pub fn functions<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let host = Object::new(ctx.clone())?;
    host.set("maxMatches", MAX_MATCHES)?;
    let put = Put { ctx, host: &host };
    put.function("subject", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, Message::subject)
    })?;
    put.function("date", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, |mail| OrNull(mail.date()))
    })?;
    put.function("messageId", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, Message::message_id)
    })?;
    put.function("text", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, Message::text)
    })?;
    put.function("html", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, |mail| OrNull(mail.html()))
    })?;
    put.function("reply", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, Message::reply)
    })?;
    put.function("replyHtml", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, |mail| OrNull(mail.reply_html()))
    })?;
    put.function("repairs", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, Message::repairs)
    })?;
    put.function("headers", |ctx: Ctx<'js>, at: u32, name: Text| {
        mail(&ctx, at, |mail| mail.headers(&name.0))
    })?;
    put.function("from", from)?;
    put.function("to", |ctx: Ctx<'js>, at: u32| {
        addresses(&ctx, at, Message::to)
    })?;
    put.function("cc", |ctx: Ctx<'js>, at: u32| {
        addresses(&ctx, at, Message::cc)
    })?;
    put.function("replyTo", |ctx: Ctx<'js>, at: u32| {
        addresses(&ctx, at, Message::reply_to)
    })?;
    put.function("classification", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, |mail| classification(mail.classification()))
    })?;
    put.function("classificationReason", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, Message::classification_reason)
    })?;
    put.function("challenge", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, Message::is_challenge)
    })?;
    put.function("authentication", authentication)?;
    details::functions(&put)?;
    put.function("attachments", attachments)?;
    put.function("attachmentText", |ctx: Ctx<'js>, at: u32, index: u32| {
        mail(&ctx, at, |mail| mail.attachment_text(index))
    })?;
    put.function("attachmentBytes", attachment_bytes)?;
    put.function("attachedMail", |ctx: Ctx<'js>, at: u32, index: u32| {
        opened(&ctx, at, |mail| mail.attached_mail(index))
    })?;
    put.function("forwarded", |ctx: Ctx<'js>, at: u32| {
        opened(&ctx, at, Message::forwarded)
    })?;
    put.function("labelled", |ctx: Ctx<'js>, at: u32, label: Text| {
        mail(&ctx, at, |mail| OrNull(labelled(at, mail, &label.0)))
    })?;
    put.function(
        "section",
        |ctx: Ctx<'js>, at: u32, from: Text, to: Option<Text>| {
            mail(&ctx, at, |mail| {
                OrNull(layout::section(
                    &mail.text(),
                    &from.0,
                    to.as_ref().map(|to| &*to.0),
                ))
            })
        },
    )?;
    put.function("table", |ctx: Ctx<'js>, at: u32, number: f64| {
        mail(&ctx, at, |mail| {
            // There is no table before the first.
            mail.html()
                .filter(|_| number >= 0.0)
                .map(|html| postroom_html::table(&html, number as usize))
                .unwrap_or_default()
        })
    })?;
    put.function("field", |ctx: Ctx<'js>, at: u32, name: Text| {
        field_text(&ctx, at, &name.0)
    })?;
    put.function(
        "match",
        |ctx: Ctx<'js>, at: u32, name: Text, pattern: Text| first(&ctx, at, &name.0, &pattern.0),
    )?;
    put.function(
        "findAll",
        |ctx: Ctx<'js>, at: u32, name: Text, pattern: Text| every(&ctx, at, &name.0, &pattern.0),
    )?;
    put.function("regExp", reg_exp)?;
    put.function("local", local_time)?;
    put.function(
        "open",
        |ctx: Ctx<'js>, time: Text, zone: Text, hours: Text| {
            zones::open(&time.0, &zone.0, &hours.0)
                .map_err(|reason| Exception::throw_range(&ctx, &format!("ctx.open: {reason}")))
        },
    )?;
    put.function("settings", |_: Ctx<'js>| settings::all())?;
    put.function("kvGet", |_: Ctx<'js>, key: Text| OrNull(kv::get(&key.0)))?;
    put.function("kvSet", |ctx: Ctx<'js>, key: Text, value: Text| {
        kv::set(&key.0, &value.0)
            .map_err(|reason| Exception::throw_message(&ctx, &format!("kv.set: {reason}")))
    })?;
    put.function("kvDelete", |_: Ctx<'js>, key: Text| kv::delete(&key.0))?;
    inquiries::functions(&put)?;
    put.function("samples", samples)?;
    put.function("log", |_: Ctx<'js>, level: String, message: Text| {
        log::log(log_level(&level), &message.0)
    })?;
    put.function("random", |ctx: Ctx<'js>| {
        let message_id = || mail(&ctx, 0, Message::message_id).unwrap_or_default();
        clock::random(message_id)
    })?;
    put.function(
        "check",
        |ctx: Ctx<'js>, kind: String, content: Object<'js>| {
            if kind == "pass" {
                return Ok(());
            }
            refuse_what_is_not_granted(&ctx, &kind)?;
            answer::action(&ctx, &kind, &content)
                .map(drop)
                .map_err(|reason| Exception::throw_type(&ctx, &reason))
        },
    )?;
    Ok(host)
}

/// Fails if the action is not granted, at the position where it is made. At the top level grants cannot be queried; then
/// the host refuses the action when it is returned.
fn refuse_what_is_not_granted(ctx: &Ctx<'_>, kind: &str) -> Result<()> {
    if MAIL.get().is_none() || engine::granted(kind) {
        return Ok(());
    }
    let what = match kind {
        "decline" => "reply, which decline needs,",
        kind => kind,
    };
    let message = TENANT.with_borrow(|tenant| format!("{what} is not granted to tenant {tenant}"));
    Err(Exception::throw_message(ctx, &message))
}

/// Returns a client, a thread and a match, in the form that every mail may have.
fn samples(ctx: Ctx<'_>) -> Result<Vec<Value<'_>>> {
    let named = |name: &str| Captures {
        start: 0,
        start_utf16: 0,
        groups: vec![Some(name.to_owned()), None],
        names: vec![(name.to_owned(), 1)],
    };
    Ok(vec![
        client(
            &ctx,
            Some(&Client {
                name: String::new(),
                sure: true,
                evidence: String::new(),
                candidates: Vec::new(),
            }),
        )?,
        thread(
            &ctx,
            Some(&Thread {
                ticket: String::new(),
                method: String::new(),
                authorised: true,
            }),
        )?,
        captured(&ctx, named("host"))?,
    ])
}

/// `ctx.client`
pub fn client<'js>(ctx: &Ctx<'js>, client: Option<&Client>) -> Result<Value<'js>> {
    let Some(client) = client else {
        return Ok(Value::new_null(ctx.clone()));
    };
    let object = Object::new(ctx.clone())?;
    object.set("name", client.name.as_str())?;
    object.set("sure", client.sure)?;
    object.set("evidence", client.evidence.as_str())?;
    object.set("candidates", client.candidates.clone())?;
    Ok(object.into_value())
}

/// `ctx.thread`
pub fn thread<'js>(ctx: &Ctx<'js>, thread: Option<&Thread>) -> Result<Value<'js>> {
    let Some(thread) = thread else {
        return Ok(Value::new_null(ctx.clone()));
    };
    let object = Object::new(ctx.clone())?;
    object.set("ticket", thread.ticket.as_str())?;
    object.set("method", thread.method.as_str())?;
    object.set("authorised", thread.authorised)?;
    Ok(object.into_value())
}

/// The object that the functions are added to.
pub struct Put<'a, 'js> {
    ctx: &'a Ctx<'js>,
    host: &'a Object<'js>,
}

impl<'js> Put<'_, 'js> {
    pub fn function<P>(&self, name: &str, function: impl IntoJsFunc<'js, P> + 'js) -> Result<()> {
        self.host
            .set(name, Function::new(self.ctx.clone(), function)?)
    }
}

/// A script's text. An unpaired surrogate, such as `slice` leaves of an emoji, is replaced as everywhere else.
pub struct Text(pub String);

impl<'js> FromJs<'js> for Text {
    fn from_js(_: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        answer::well_formed(
            &value
                .try_into_string()
                .map_err(|value| rquickjs::Error::new_from_js(value.type_name(), "string"))?,
        )
        .map(Text)
    }
}

/// A value that scripts see as null if there is none; a bare `None` would be undefined.
pub struct OrNull<T>(pub Option<T>);

impl<'js, T: IntoJs<'js>> IntoJs<'js> for OrNull<T> {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        match self.0 {
            Some(value) => value.into_js(ctx),
            None => Ok(Value::new_null(ctx.clone())),
        }
    }
}

/// Reads a property of a mail. While the top level runs there is none.
#[allow(unsafe_code)]
pub fn mail<T>(ctx: &Ctx<'_>, at: u32, ask: impl FnOnce(&Message) -> T) -> Result<T> {
    let none = || Exception::throw_message(ctx, "there is no mail outside of decide");
    let Some(message) = MAIL.get() else {
        return Err(none());
    };
    if at == 0 {
        // SAFETY: the pointer is set by `lend` and cleared when the loan ends, and the mail outlives the loan.
        return Ok(ask(unsafe { message.as_ref() }));
    }
    OPENED.with_borrow(|opened| opened.get(at as usize - 1).map(ask).ok_or_else(none))
}

/// Opens a mail within a mail. Returns its number; null if there is none.
fn opened(
    ctx: &Ctx<'_>,
    at: u32,
    open: impl FnOnce(&Message) -> Option<Message>,
) -> Result<OrNull<u32>> {
    let found = mail(ctx, at, open)?;
    Ok(OrNull(found.map(|found| {
        OPENED.with_borrow_mut(|opened| {
            opened.push(found);
            opened.len() as u32
        })
    })))
}

fn address<'js>(ctx: &Ctx<'js>, address: Address) -> Result<Value<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("name", OrNull(address.name))?;
    object.set("email", address.email)?;
    Ok(object.into_value())
}

fn addresses<'js>(
    ctx: &Ctx<'js>,
    at: u32,
    list: impl FnOnce(&Message) -> Vec<Address>,
) -> Result<Vec<Value<'js>>> {
    mail(ctx, at, list)?
        .into_iter()
        .map(|one| address(ctx, one))
        .collect()
}

fn from(ctx: Ctx<'_>, at: u32) -> Result<Value<'_>> {
    match mail(&ctx, at, Message::from)? {
        Some(sender) => address(&ctx, sender),
        None => Ok(Value::new_null(ctx)),
    }
}

fn classification(class: Classification) -> &'static str {
    match class {
        Classification::Person => "person",
        Classification::AutoReply => "auto-reply",
        Classification::Bounce => "bounce",
        Classification::List => "list",
        Classification::Machine => "machine",
        Classification::Calendar => "calendar",
    }
}

fn authentication(ctx: Ctx<'_>, at: u32) -> Result<Object<'_>> {
    let verdict = |verdict| match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::None => "none",
    };
    let said = mail(&ctx, at, Message::authentication)?;
    let object = Object::new(ctx)?;
    object.set("spf", verdict(said.spf))?;
    object.set("dkim", verdict(said.dkim))?;
    object.set("dmarc", verdict(said.dmarc))?;
    object.set("arc", verdict(said.arc))?;
    Ok(object)
}

fn attachments(ctx: Ctx<'_>, at: u32) -> Result<Vec<Object<'_>>> {
    let describe = |attachment: crate::bindings::postroom::plugin::types::Attachment| {
        let object = Object::new(ctx.clone())?;
        object.set("name", attachment.name)?;
        object.set("contentType", attachment.content_type)?;
        object.set("size", attachment.size as f64)?;
        object.set("inline", attachment.inline)?;
        object.set("contentId", OrNull(attachment.content_id))?;
        object.set("isMail", attachment.is_mail)?;
        Ok(object)
    };
    mail(&ctx, at, Message::attachments)?
        .into_iter()
        .map(describe)
        .collect()
}

fn attachment_bytes<'js>(
    ctx: Ctx<'js>,
    at: u32,
    index: u32,
    offset: f64,
    length: f64,
) -> Result<TypedArray<'js, u8>> {
    // A number below 0 counts as 0, and a number over the maximum as the maximum.
    let bytes = mail(&ctx, at, |mail| {
        mail.attachment_bytes(index, offset as u64, length as u32)
    })?;
    TypedArray::new(ctx, bytes)
}

fn log_level(name: &str) -> log::Level {
    match name {
        "debug" => log::Level::Debug,
        "warn" => log::Level::Warn,
        "error" => log::Level::Error,
        _ => log::Level::Info,
    }
}

fn field(ctx: &Ctx<'_>, name: &str) -> Result<Field> {
    Ok(match name {
        "subject" => Field::Subject,
        "from" => Field::From,
        "to" => Field::To,
        "cc" => Field::Cc,
        "text" => Field::Text,
        "html" => Field::Html,
        "reply" => Field::Reply,
        other => match other.strip_prefix("header:").map(str::trim) {
            Some(header) if !header.is_empty() => Field::Header(header.to_owned()),
            _ => {
                let known = "known: subject, from, to, cc, text, html, reply, header:NAME";
                return Err(Exception::throw_type(
                    ctx,
                    &format!("there is no field {name:?} ({known})"),
                ));
            }
        },
    })
}

/// Returns the text that patterns on a field are matched with.
fn field_text(ctx: &Ctx<'_>, at: u32, name: &str) -> Result<String> {
    let field = field(ctx, name)?;
    mail(ctx, at, |mail| match field {
        Field::Subject => mail.subject(),
        Field::Text => mail.text(),
        Field::Html => mail.html().unwrap_or_default(),
        Field::Reply => mail.reply(),
        // The host determines the text of these fields, so it is fetched complete.
        Field::From | Field::To | Field::Cc | Field::Header(_) => {
            let whole = mail.match_(&field, r"(?s)\A.*\z").ok().flatten();
            whole
                .and_then(|found| found.groups.into_iter().next().flatten())
                .unwrap_or_default()
        }
    })
}

fn first<'js>(ctx: &Ctx<'js>, at: u32, name: &str, pattern: &str) -> Result<Value<'js>> {
    let field = field(ctx, name)?;
    let found = mail(ctx, at, |mail| mail.match_(&field, pattern))?
        .map_err(|error| bad_pattern(ctx, "match", error))?;
    matched(ctx, found)
}

fn every<'js>(ctx: &Ctx<'js>, at: u32, name: &str, pattern: &str) -> Result<Value<'js>> {
    let field = field(ctx, name)?;
    let found = mail(ctx, at, |mail| mail.find_all(&field, pattern))?
        .map_err(|error| bad_pattern(ctx, "findAll", error))?;
    all_matched(ctx, found)
}

/// Returns the first match or all matches of a RegExp; undefined if JavaScript must match by itself.
fn reg_exp<'js>(
    ctx: Ctx<'js>,
    at: u32,
    name: String,
    source: String,
    flags: String,
    all: bool,
) -> Result<Value<'js>> {
    let field = field(&ctx, &name)?;
    let by_script = || Ok(Value::new_undefined(ctx.clone()));
    let Some(translated) = translate(&source, &flags) else {
        return by_script();
    };
    if !translated.holds(all, |characters| has(&ctx, at, &name, &field, characters))? {
        return by_script();
    }
    let pattern = translated.pattern;
    // A pattern that is too large for the host may still be acceptable for JavaScript.
    if all {
        match mail(&ctx, at, |mail| mail.find_all(&field, &pattern))? {
            Ok(found) => all_matched(&ctx, found),
            Err(_) => by_script(),
        }
    } else {
        match mail(&ctx, at, |mail| mail.match_(&field, &pattern))? {
            Ok(found) => matched(&ctx, found),
            Err(_) => by_script(),
        }
    }
}

/// Returns whether a field's text has certain characters; checked once per mail.
fn has(
    ctx: &Ctx<'_>,
    at: u32,
    name: &str,
    field: &Field,
    characters: &'static str,
) -> Result<bool> {
    let known = TRAITS.with_borrow(|traits| {
        traits
            .iter()
            .find(|it| it.mail == at && it.field == name && it.pattern == characters)
            .map(|it| it.found)
    });
    if let Some(found) = known {
        return Ok(found);
    }
    let found = mail(ctx, at, |mail| {
        !matches!(mail.match_(field, characters), Ok(None))
    })?;
    TRAITS.with_borrow_mut(|traits| {
        traits.push(Trait {
            mail: at,
            field: name.to_owned(),
            pattern: characters,
            found,
        });
    });
    Ok(found)
}

/// `ctx.local(time, zone)`
fn local_time<'js>(ctx: Ctx<'js>, time: Text, zone: Text) -> Result<Object<'js>> {
    let local = zones::local(&time.0, &zone.0)
        .map_err(|reason| Exception::throw_range(&ctx, &format!("ctx.local: {reason}")))?;
    let object = Object::new(ctx)?;
    object.set("year", local.year)?;
    object.set("month", local.month)?;
    object.set("day", local.day)?;
    object.set("hour", local.hour)?;
    object.set("minute", local.minute)?;
    object.set("second", local.second)?;
    object.set("weekday", local.weekday)?;
    object.set("offsetSecs", local.offset_secs)?;
    object.set("iso", local.iso)?;
    Ok(object)
}

fn bad_pattern(ctx: &Ctx<'_>, function: &str, error: PatternError) -> rquickjs::Error {
    match error {
        PatternError::Syntax(reason) => {
            Exception::throw_syntax(ctx, &format!("{function}: bad pattern: {reason}"))
        }
        PatternError::Limit(reason) => {
            Exception::throw_range(ctx, &format!("{function}: pattern over a limit: {reason}"))
        }
    }
}

pub fn matched<'js>(ctx: &Ctx<'js>, found: Option<Captures>) -> Result<Value<'js>> {
    match found {
        Some(captures) => captured(ctx, captures),
        None => Ok(Value::new_null(ctx.clone())),
    }
}

pub fn all_matched<'js>(ctx: &Ctx<'js>, found: Vec<Captures>) -> Result<Value<'js>> {
    let list = Array::new(ctx.clone())?;
    for (index, captures) in found.into_iter().enumerate() {
        list.set(index, captured(ctx, captures)?)?;
    }
    Ok(list.into_value())
}

/// Returns the value of a label.
fn labelled(at: u32, mail: &Message, label: &str) -> Option<String> {
    PAIRS.with_borrow_mut(|known| {
        let pairs = match known.take() {
            Some((of, pairs)) if of == at => pairs,
            _ => mail.pairs(),
        };
        let value = postroom_html::field(&pairs, &mail.text(), label);
        *known = Some((at, pairs));
        value
    })
}

/// Returns a match in the form of `RegExp.prototype.exec`'s.
fn captured<'js>(ctx: &Ctx<'js>, captures: Captures) -> Result<Value<'js>> {
    let list = Array::new(ctx.clone())?;
    let groups = Object::new(ctx.clone())?;
    for (index, group) in captures.groups.into_iter().enumerate() {
        list.set(index, group.into_js(ctx)?)?;
    }
    for (name, number) in captures.names {
        groups.set(name, list.get::<Value>(number as usize)?)?;
    }
    list.as_object().set("index", captures.start_utf16)?;
    list.as_object().set("groups", groups)?;
    Ok(list.into_value())
}
