//! Runs a protocol that Postroom does not have, defined in one file: the mail it fetches passes through the line.

mod maildrop;

use std::path::Path;

use postroom_core::MailboxState;
use postroom_net::{Step, Trace};

use super::*;
use maildrop::{Drop, Maildrop};
use postroom_line::bus::{Bus, Heard, Reader};
use postroom_line::event::LineEvent;
use postroom_line::intake::Intake;
use postroom_line::positions::JournalPositions;
use postroom_mailbox::Source;

const CONFIGURATION: &str = r#"
[tenants.acme]
domains = ["acme.example"]

[mailboxes.support]
tenant = "acme"
protocol = "spool"
path = "spool"
after = { done = "AFTER" }
rules = ["standard"]

[limits]
batch_mails = 2
"#;

/// Drains a service whose only mailbox is a maildrop. Checks its events and returns how many mails were decided.
async fn drain(dir: &Path, drop: &Drop, after: &str) -> usize {
    let file = dir.join("postroom.toml");
    std::fs::write(&file, CONFIGURATION.replace("AFTER", after)).unwrap();
    let mut config = Config::load(&file).unwrap();
    config.installations = dir.join("installations");
    let stop = CancellationToken::new();
    let bus = Bus::default();
    let events = bus.reader();
    let options = Options::new(bus.publisher(), false);
    let mut service = Service::build(Arc::new(config), options, stop)
        .await
        .unwrap();
    let mut source: Box<dyn Source> = Box::new(Maildrop::new(drop.clone()));
    let means = &service.means;
    let known = JournalPositions::new(means.store.clone(), "support");
    source.set_known(Arc::new(known));
    let mailbox = service.starting[0].intake.mailbox().clone();
    service.starting[0].intake = Intake::new(
        means.line.clone(),
        watch::Sender::new(mailbox).subscribe(),
        Ok(source),
        service.config.mailboxes[0].every,
        InFlight::new(1 << 20),
        None,
        means.stop.clone(),
    );
    let drained = service.once().await.unwrap();
    assert!(drained.failed.is_empty(), "{:?}", drained.failed);
    assert_eq!(drained.unacknowledged, 0);
    look_at(bus, events, drained.decided).await;
    drained.decided
}

/// Checks the events of a drain: the rules, each mail once, and that the mailbox serves.
async fn look_at(bus: Bus, mut events: Reader, decided: usize) {
    std::mem::drop(bus);
    let (mut mails, mut states, mut generations) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(heard) = events.next().await {
        match heard {
            Heard::Event(LineEvent::Decided(commit)) => {
                assert!(commit.len() <= 2, "a batch has two mails");
                mails.extend(commit.iter().map(|it| it.mail.0));
            }
            Heard::Event(LineEvent::MailboxChanged(changed)) => {
                assert_eq!(changed.mailbox.name, "support");
                states.push(changed.change.state());
            }
            Heard::Event(LineEvent::RulesReloaded(reloaded)) => {
                generations.push(reloaded.generation)
            }
            Heard::Event(_) => panic!("nothing is delivered, and there are no contacts"),
            Heard::Lagged(events) => panic!("{events} events are lost"),
        }
    }
    mails.sort_unstable();
    mails.dedup();
    assert_eq!(mails.len(), decided);
    assert_eq!(states, [MailboxState::Serving]);
    assert!(generations.len() <= 1, "{generations:?}");
}

#[tokio::test]
async fn mail_without_an_order_is_fetched_once_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let drop = Drop::default();
    for name in ["m", "x", "c", "k", "b"] {
        drop.deliver(name);
    }
    assert_eq!(drain(dir.path(), &drop, "keep").await, 5);
    assert_eq!(drop.retrieved(), 5);
    // A server may list new mail in any position.
    drop.deliver("a");
    drop.deliver("l");
    assert_eq!(drain(dir.path(), &drop, "keep").await, 2);
    assert_eq!(drain(dir.path(), &drop, "keep").await, 0);
    assert_eq!(drop.retrieved(), 7);
}

#[tokio::test]
async fn what_is_decided_is_removed_from_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let drop = Drop::default();
    for name in ["m", "x", "c"] {
        drop.deliver(name);
    }
    assert_eq!(drain(dir.path(), &drop, "delete").await, 3);
    assert_eq!(drop.names(), [""; 0]);
}

#[tokio::test]
async fn a_session_that_acknowledging_ends_is_used_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let drop = Drop::default();
    for number in 0..11 {
        drop.deliver(&format!("m{number}"));
    }
    assert_eq!(drain(dir.path(), &drop, "delete").await, 11);
    assert_eq!((drop.names().len(), drop.ended_early()), (0, false));
}

#[tokio::test]
async fn any_source_is_probed_and_traced() {
    let drop = Drop::default();
    drop.deliver("m");
    let mut source: Box<dyn Source> = Box::new(Maildrop::new(drop));
    let trace = Trace::new();
    source.set_trace(trace.clone());
    let mut steps = Vec::new();
    source
        .probe(&mut |step| steps.push((step.step, step.outcome.unwrap())))
        .await;
    assert_eq!(
        steps,
        [
            (Step::Connect, "maildrop".to_owned()),
            (Step::List, "1 mail".to_owned())
        ]
    );
    assert_eq!(trace.take()[0].text, "UIDL");
}
