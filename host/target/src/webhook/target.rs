//! The `webhook` target: posts each event as signed JSON.

use std::sync::Arc;

use async_trait::async_trait;
use postroom_core::{Clock, Event, EventKind, ItemSnapshot};
use postroom_net::{ProbeReporter, ProbeStep, Trace};
use rustls::ClientConfig;
use serde::Serialize;

use crate::webhook::probe::probe;
use crate::webhook::{SpeaksOf, Webhook, WebhookError};
use crate::{
    Attempt, Content, Delivery, Fault, Scope, Severity, Target, TargetError, TestDelivery,
};

/// Posts events to one address.
pub struct WebhookTarget {
    webhook: Webhook,
    tls: Arc<ClientConfig>,
    /// Gives the time in each signature.
    clock: Clock,
}

/// The body that a receiver gets; see `docs/webhooks.md`.
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
    /// Absent for an alert of Postroom itself, as is the Message-ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<i64>,
    mailbox: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
}

impl WebhookTarget {
    pub fn new(webhook: Webhook, tls: Arc<ClientConfig>, clock: Clock) -> Self {
        Self {
            webhook,
            tls,
            clock,
        }
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
            Ok(status) => Attempt::Delivered(status.to_string().into()),
            Err(error) => Attempt::Failed(fault(error)),
        }
    }

    async fn probe(
        &self,
        test: Option<&TestDelivery>,
        report: &mut (dyn FnMut(ProbeStep<TargetError>) + Send),
    ) {
        let mut reporter = ProbeReporter::to(report);
        if let Err(error) = probe(&self.webhook, &self.tls, &self.clock, test, &mut reporter).await
        {
            reporter.failed(error);
        }
    }

    fn set_trace(&mut self, trace: Trace) {
        self.webhook.set_trace(trace);
    }
}

fn body(event: &Event) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Body {
        kind: event.kind,
        timestamp: &event.timestamp,
        data: Data {
            item: &event.item,
            decision: event.decision,
            mailbox: &event.mailbox,
            message_id: event.message_id.as_deref(),
        },
    })
}

fn fault(error: WebhookError) -> Fault {
    let problem = error.to_string();
    match error {
        WebhookError::Failed {
            speaks_of,
            status,
            retry_after,
            ..
        } => Fault {
            retry_after,
            may_have_arrived: status.is_none() && speaks_of != SpeaksOf::Receiver,
            ..Fault::new(scope(speaks_of), problem)
        },
        WebhookError::Connect(_) => Fault::new(Scope::Target, problem),
        WebhookError::Settings { .. } => Fault {
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
