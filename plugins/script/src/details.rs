//! The functions that return what was read out of a mail: delivery reports, calendars, links and pairs.

use rquickjs::{Ctx, IntoJs, Object, Result, Value};

use crate::bindings::postroom::plugin::types::{Calendar, DeliveryReport, Link, Message};
use crate::host::{OrNull, Put, mail};

/// Adds the functions.
pub fn functions<'js>(put: &Put<'_, 'js>) -> Result<()> {
    put.function("delivery", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, |mail| OrNull(mail.delivery()))
    })?;
    put.function("calendar", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, |mail| OrNull(mail.calendar()))
    })?;
    put.function("links", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, Message::links)
    })?;
    put.function("pairs", |ctx: Ctx<'js>, at: u32| {
        mail(&ctx, at, |mail| {
            let pairs = mail.pairs().into_iter();
            pairs
                .map(|(label, value)| vec![label, value])
                .collect::<Vec<_>>()
        })
    })
}

impl<'js> IntoJs<'js> for DeliveryReport {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        let recipients: Vec<Object<'js>> = self
            .recipients
            .into_iter()
            .map(|failed| {
                let object = Object::new(ctx.clone())?;
                object.set("email", failed.email)?;
                object.set("status", OrNull(failed.status))?;
                object.set("permanent", failed.permanent)?;
                object.set("diagnostic", OrNull(failed.diagnostic))?;
                Ok(object)
            })
            .collect::<Result<_>>()?;
        let object = Object::new(ctx.clone())?;
        object.set("recipients", recipients)?;
        object.set("messageId", OrNull(self.message_id))?;
        Ok(object.into_value())
    }
}

impl<'js> IntoJs<'js> for Calendar {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        let attendees: Vec<Object<'js>> = self
            .attendees
            .into_iter()
            .map(|attendee| {
                let object = Object::new(ctx.clone())?;
                object.set("email", attendee.email)?;
                object.set("status", attendee.status)?;
                Ok(object)
            })
            .collect::<Result<_>>()?;
        let object = Object::new(ctx.clone())?;
        object.set("method", self.method)?;
        object.set("uid", self.uid)?;
        object.set("summary", self.summary)?;
        object.set("start", OrNull(self.start))?;
        object.set("end", OrNull(self.end))?;
        object.set("location", OrNull(self.location))?;
        object.set("organizer", OrNull(self.organizer))?;
        object.set("attendees", attendees)?;
        Ok(object.into_value())
    }
}

impl<'js> IntoJs<'js> for Link {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        let object = Object::new(ctx.clone())?;
        object.set("text", self.text)?;
        object.set("url", self.url)?;
        Ok(object.into_value())
    }
}
