//! A kind of target for tests only: it keeps what it receives, and gives each ticket a number of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use postroom_core::{EventKind, ExternalRef, Receipt};
use postroom_net::{ProbeReporter, ProbeStep, Step};
use postroom_target::{
    Attempt, Content, Delivery, Fault, Scope, Target, TargetError, TestDelivery,
};

/// One delivery to a recorder: the idempotency key, the kind of event, and the reference that came with it.
pub type Told = (String, EventKind, Option<ExternalRef>);

#[derive(Clone, Default)]
pub struct Recorder {
    pub is_down: Arc<AtomicBool>,
    /// Whether each entry is refused individually.
    pub refuses: Arc<AtomicBool>,
    pub told: Arc<Mutex<Vec<Told>>>,
    pub closed: Arc<AtomicBool>,
}

#[async_trait]
impl Target for Recorder {
    async fn deliver(&self, delivery: Delivery<'_>) -> Attempt {
        if self.is_down.load(Ordering::Relaxed) {
            return Attempt::Failed(Fault::new(Scope::Target, "out of paper"));
        }
        if self.refuses.load(Ordering::Relaxed) {
            return Attempt::Failed(Fault::new(Scope::Entry, "illegible"));
        }
        let Content::Event(event) = delivery.content else {
            return Attempt::Final("a recorder takes no mail".into());
        };
        let key = delivery.idempotency_key.to_owned();
        let mut told = self.told.lock().unwrap();
        told.push((key, event.kind, delivery.reference.cloned()));
        Attempt::Delivered(Receipt {
            status: "written".into(),
            external: event.item.ticket.clone().map(|ticket| ExternalRef {
                id: format!("R-{ticket}"),
                number: None,
                url: None,
            }),
            ..Receipt::default()
        })
    }

    async fn probe(
        &self,
        _test: Option<&TestDelivery>,
        report: &mut (dyn FnMut(ProbeStep<TargetError>) + Send),
    ) {
        ProbeReporter::to(report).passed(Step::Connect, || "paper is there".into());
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}
