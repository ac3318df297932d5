//! `ctx.lookup`: queries about the tenant, with the results as plain objects.

use rquickjs::{Ctx, IntoJs, Object, Result, Value};

use crate::bindings::postroom::plugin::lookup::{
    self, KnownAlert, KnownAsset, KnownContact, OpenTicket, TicketSearch,
};
use crate::bindings::postroom::plugin::types::{AlertState, Value as FieldValue};
use crate::host::{OrNull, Put, Text};

/// Adds the functions behind `ctx.lookup`.
pub fn functions<'js>(put: &Put<'_, 'js>) -> Result<()> {
    put.function("contact", |ctx: Ctx<'js>, email: Text| {
        one(&ctx, lookup::contact(&email.0), contact)
    })?;
    put.function("contacts", |ctx: Ctx<'js>, text: Text| {
        all(&ctx, lookup::contacts(&text.0), contact)
    })?;
    put.function("asset", |ctx: Ctx<'js>, name: Text| {
        one(&ctx, lookup::asset(&name.0), asset)
    })?;
    put.function("assets", |ctx: Ctx<'js>, text: Text| {
        all(&ctx, lookup::assets(&text.0), asset)
    })?;
    put.function("openTicket", |ctx: Ctx<'js>, number: Text| {
        one(&ctx, lookup::ticket(&number.0), ticket)
    })?;
    put.function("ticketsOf", |ctx: Ctx<'js>, email: Text| {
        let search = TicketSearch::Requester(email.0);
        all(&ctx, lookup::tickets(&search), ticket)
    })?;
    put.function("ticketsAbout", |ctx: Ctx<'js>, text: Text| {
        let search = TicketSearch::Subject(text.0);
        all(&ctx, lookup::tickets(&search), ticket)
    })?;
    put.function("ticketsWith", |ctx: Ctx<'js>, name: Text, value: Text| {
        let search = TicketSearch::Field((name.0, value.0));
        all(&ctx, lookup::tickets(&search), ticket)
    })?;
    put.function("knownAlert", |ctx: Ctx<'js>, key: Text| {
        one(&ctx, lookup::alert(&key.0), alert)
    })?;
    put.function("firingAlerts", |ctx: Ctx<'js>, text: Text| {
        all(&ctx, lookup::alerts(&text.0), alert)
    })
}

fn one<'js, T>(
    ctx: &Ctx<'js>,
    found: Option<T>,
    shown: fn(&Ctx<'js>, T) -> Result<Object<'js>>,
) -> Result<Value<'js>> {
    match found {
        Some(row) => shown(ctx, row).map(Object::into_value),
        None => Ok(Value::new_null(ctx.clone())),
    }
}

fn all<'js, T>(
    ctx: &Ctx<'js>,
    found: Vec<T>,
    shown: fn(&Ctx<'js>, T) -> Result<Object<'js>>,
) -> Result<Vec<Object<'js>>> {
    found.into_iter().map(|row| shown(ctx, row)).collect()
}

fn contact<'js>(ctx: &Ctx<'js>, contact: KnownContact) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("name", contact.name)?;
    object.set("email", contact.email)?;
    object.set("phone", OrNull(contact.phone))?;
    object.set("vip", contact.vip)?;
    object.set("fields", texts(ctx, contact.fields)?)?;
    Ok(object)
}

fn asset<'js>(ctx: &Ctx<'js>, asset: KnownAsset) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("name", asset.name)?;
    object.set("serial", OrNull(asset.serial))?;
    object.set("host", OrNull(asset.host))?;
    object.set("fields", texts(ctx, asset.fields)?)?;
    Ok(object)
}

fn ticket<'js>(ctx: &Ctx<'js>, ticket: OpenTicket) -> Result<Object<'js>> {
    let fields = Object::new(ctx.clone())?;
    for (name, value) in ticket.fields {
        let value = match value {
            FieldValue::Text(text) => text.into_js(ctx)?,
            FieldValue::Number(number) => number.into_js(ctx)?,
            FieldValue::Flag(flag) => flag.into_js(ctx)?,
            FieldValue::Json(json) => ctx.json_parse(json)?,
        };
        fields.set(name, value)?;
    }
    let object = Object::new(ctx.clone())?;
    object.set("ticket", ticket.ticket)?;
    object.set("title", ticket.title)?;
    object.set("requester", OrNull(ticket.requester))?;
    object.set("queue", OrNull(ticket.queue))?;
    object.set("priority", OrNull(ticket.priority))?;
    object.set("tags", ticket.tags)?;
    object.set("fields", fields)?;
    object.set("created", ticket.created)?;
    object.set("updated", ticket.updated)?;
    Ok(object)
}

fn alert<'js>(ctx: &Ctx<'js>, alert: KnownAlert) -> Result<Object<'js>> {
    let state = match alert.state {
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
    };
    let object = Object::new(ctx.clone())?;
    object.set("key", alert.key)?;
    object.set("state", state)?;
    object.set("severity", OrNull(alert.severity))?;
    object.set("host", OrNull(alert.host))?;
    object.set("service", OrNull(alert.service))?;
    object.set("summary", alert.summary)?;
    object.set("since", alert.since)?;
    object.set("updated", alert.updated)?;
    object.set("count", alert.count as f64)?;
    Ok(object)
}

fn texts<'js>(ctx: &Ctx<'js>, fields: Vec<(String, String)>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    for (name, value) in fields {
        object.set(name, value)?;
    }
    Ok(object)
}
