//! Runs a protocol that Postroom does not have, defined in one file: the mail it fetches passes through the line.

mod fragile;
mod maildrop;

use std::path::Path;

use postroom_core::MailboxState;
use postroom_net::{Step, Trace};

use super::*;
use fragile::{Fragile, Weakness};
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
    feed_first(&mut service, source);
    let drained = service.once().await.unwrap();
    assert!(drained.failed.is_empty(), "{:?}", drained.failed);
    assert_eq!(drained.unacknowledged, 0);
    look_at(bus, events, drained.decided).await;
    drained.decided
}

/// Gives the first mailbox another source.
fn feed_first(service: &mut Service, source: Box<dyn Source>) {
    let means = &service.means;
    let first = &mut service.starting[0];
    let mailbox = first.intake.mailbox().clone();
    first.intake = Intake::new(
        means.line.clone(),
        watch::Sender::new(mailbox).subscribe(),
        Ok(source),
        service.config.mailboxes[0].every,
        InFlight::new(1 << 20),
        None,
        means.stop.clone(),
    );
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

/// Serves a number of spool mailboxes, the first of which has this source instead, until `wanted` mails are decided. Each other
/// mailbox has five mails. Returns the mailbox of each decided mail, and the states of the first mailbox.
async fn serve_beside(
    weakness: Weakness,
    mailboxes: usize,
    limits: &str,
    wanted: usize,
) -> (Vec<String>, Vec<MailboxState>) {
    let dir = tempfile::tempdir().unwrap();
    let mut text = format!("[tenants.acme]\n\n[limits]\n{limits}\n");
    for number in 0..mailboxes {
        text.push_str(&format!(
            "\n[mailboxes.m{number}]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"m{number}\"\nevery = \"1s\"\n"
        ));
        let spool = dir.path().join(format!("m{number}"));
        std::fs::create_dir(&spool).unwrap();
        for mail in 0..5 {
            let text = format!("Message-ID: <{number}-{mail}@x>\r\nSubject: s\r\n\r\nhelp\r\n");
            std::fs::write(spool.join(format!("{mail}.eml")), text).unwrap();
        }
    }
    let file = dir.path().join("postroom.toml");
    std::fs::write(&file, text).unwrap();
    let mut config = Config::load(&file).unwrap();
    config.installations = dir.path().join("installations");
    let (stop, bus) = (CancellationToken::new(), Bus::default());
    let mut events = bus.reader();
    let options = Options::new(bus.publisher(), false);
    let mut service = Service::build(Arc::new(config), options, stop.clone())
        .await
        .unwrap();
    let source: Box<dyn Source> = Box::new(Fragile::new(weakness, &dir.path().join("m0")));
    feed_first(&mut service, source);
    let mut running = tokio::spawn(service.run());
    let (mut decided, mut states) = (Vec::new(), Vec::new());
    while decided.len() < wanted {
        let heard = tokio::select! {
            heard = events.next() => heard.unwrap(),
            ended = &mut running => panic!("the service ended: {ended:?}"),
        };
        match heard {
            Heard::Event(LineEvent::Decided(commit)) => {
                decided.extend(commit.iter().map(|it| it.mailbox.name.clone()));
            }
            Heard::Event(LineEvent::MailboxChanged(changed)) if changed.mailbox.name == "m0" => {
                states.push(changed.change.state());
            }
            Heard::Event(_) => {}
            Heard::Lagged(events) => panic!("{events} events are lost"),
        }
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    (decided, states)
}

#[tokio::test]
async fn a_mailbox_that_panics_is_restarted_alone() {
    for weakness in [Weakness::PanicsInFetch, Weakness::PanicsInFetchAndClose] {
        let (decided, states) = serve_beside(weakness, 2, "", 10).await;
        for mailbox in ["m0", "m1"] {
            let mails = decided.iter().filter(|it| *it == mailbox).count();
            assert_eq!(mails, 5, "{mailbox} {weakness:?}");
        }
        assert_eq!(states, [MailboxState::Defect, MailboxState::Serving]);
    }
}

#[tokio::test]
async fn a_backlog_of_thirty_mailboxes_drains_beside_a_server_that_does_not_answer() {
    // The one that hangs holds one of two fetches of the tenant.
    let limits = "fetches_per_tenant = 2";
    let (decided, states) = serve_beside(Weakness::Hangs, 31, limits, 150).await;
    for number in 1..31 {
        let name = format!("m{number}");
        let mails = decided.iter().filter(|it| **it == name).count();
        assert_eq!(mails, 5, "{name}");
    }
    assert_eq!(states, []);
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
