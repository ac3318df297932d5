//! The target of kind `webhook`: posts each event as JSON, signed.

use crate::webhook::{SinkError, SpeaksOf, Webhook};
use async_trait::async_trait;
use postroom_core::{Clock, Event, EventKind, ItemSnapshot};
use postroom_net::ProbeStep;
use serde::Serialize;

use crate::{Attempt, Content, Delivery, Fault, Scope, Severity, Target};

/// Posts events to one address.
pub struct WebhookTarget {
    webhook: Webhook,
    /// Gives the time in each signature.
    clock: Clock,
}

/// What a receiver gets: `docs/webhooks.md` describes it.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: EventKind,
    timestamp: &'a str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    item: &'a ItemSnapshot,
    decision: i64,
    mailbox: &'a str,
    message_id: &'a str,
}

impl WebhookTarget {
    pub fn new(webhook: Webhook, clock: Clock) -> Self {
        Self { webhook, clock }
    }
}

#[async_trait]
impl Target for WebhookTarget {
    async fn deliver(&self, delivery: Delivery<'_>) -> Attempt {
        let Content::Event(event) = delivery.content else {
            return Attempt::Final("a webhook takes no mail".into());
        };
        let body = match body(event) {
            Ok(body) => body,
            Err(error) => return Attempt::Final(format!("its event cannot be written: {error}")),
        };
        let posted = self
            .webhook
            .post(delivery.idempotency_key, self.clock.now(), &body);
        match posted.await {
            Ok(receipt) => Attempt::Delivered(receipt.status.to_string().into()),
            Err(error) => Attempt::Failed(fault(error)),
        }
    }

    /// Nothing can be asked of a receiver without giving it an event.
    async fn probe(&self, _report: &mut (dyn FnMut(ProbeStep<Fault>) + Send)) {}
}

fn body(event: &Event) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Body {
        kind: event.kind,
        timestamp: &event.timestamp,
        data: Data {
            item: &event.item,
            decision: event.decision,
            mailbox: &event.mailbox,
            message_id: &event.message_id,
        },
    })
}

fn fault(error: SinkError) -> Fault {
    let problem = error.to_string();
    match error {
        SinkError::Failed {
            speaks_of,
            retry_after,
            ..
        } => Fault {
            retry_after,
            ..Fault::new(scope(speaks_of), problem)
        },
        SinkError::Settings { .. } => Fault {
            severity: Severity::Error,
            ..Fault::new(Scope::Target, problem)
        },
    }
}

fn scope(speaks_of: SpeaksOf) -> Scope {
    match speaks_of {
        SpeaksOf::Receiver => Scope::Target,
        SpeaksOf::Either => Scope::Unclear,
        SpeaksOf::Item => Scope::Entry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_gets_the_item_beside_its_decision() {
        let stored = r#"{"kind":"ticket.created","timestamp":"2026-11-30T08:00:00.000Z",
            "item":{"id":4,"kind":"ticket","tenant":"acme","ticket":"T-1","title":"a","body":"It burns","priority":null,
                    "queue":null,"fields":{"n":1},"state":"open","created":"c","updated":"u","requester":"Ann <ann@a.example>"},
            "decision":7,"mailbox":"support","message_id":"a@x"}"#;
        let event: Event = serde_json::from_str(stored).unwrap();
        assert_eq!(
            body(&event).unwrap(),
            r#"{"type":"ticket.created","timestamp":"2026-11-30T08:00:00.000Z","data":{"id":4,"kind":"ticket","tenant":"acme","ticket":"T-1","title":"a","body":"It burns","priority":null,"queue":null,"fields":{"n":1},"state":"open","created":"c","updated":"u","requester":"Ann <ann@a.example>","decision":7,"mailbox":"support","message_id":"a@x"}}"#
        );
        let again: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(again, event);
    }
}
