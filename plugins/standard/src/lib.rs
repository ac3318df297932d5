//! The default rule for mailboxes: a reply to a known ticket becomes a note, everything else a ticket.
//!
//! Settings: `queue` and `priority` of new tickets; `acknowledge`, the text sent to a person who opens one (`{ticket}`
//! becomes the ticket's number).

use postroom_sdk::{Action, Classification, Context, Mail, note, reply, settings, ticket};

postroom_sdk::rule!(decide);
postroom_sdk::declare_settings!("queue", "priority", "acknowledge");

fn decide(mail: &Mail, ctx: &Context) -> Vec<Action> {
    if ctx.thread.as_ref().is_some_and(|thread| thread.authorised) {
        return vec![note().body(mail.reply()).into()];
    }
    let mut new = ticket();
    new.queue = settings::text("queue");
    new.priority = settings::text("priority");
    let mut actions = vec![new.into()];
    if let Some(text) = settings::text("acknowledge")
        && may_be_answered(mail)
    {
        actions.push(reply(text).into());
    }
    actions
}

/// Returns whether an automatic reply can neither loop nor annoy (RFC 3834 section 2).
fn may_be_answered(mail: &Mail) -> bool {
    let has = |name: &str| !mail.headers(name).is_empty();
    let says = |name: &str, words: &[&str]| {
        mail.headers(name).iter().any(|value| {
            words
                .iter()
                .any(|word| value.trim().eq_ignore_ascii_case(word))
        })
    };
    mail.classification() == Classification::Person
        && mail.from().is_some()
        && !says("Return-Path", &["<>"])
        && (!has("Auto-Submitted") || says("Auto-Submitted", &["no"]))
        && !says("Precedence", &["bulk", "list", "junk", "auto_reply"])
        && !has("List-Id")
        && !has("List-Unsubscribe")
        && !has("X-Auto-Response-Suppress")
}
