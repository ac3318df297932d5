//! SIGKILL at any moment: what was confirmed is there, and nothing stale is in the way.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use postroom_store::{Filter, JournalId};

use crate::kit::*;

const DIR: &str = "STORE_CRASH_DIR";
const ROUNDS: usize = 6;

/// The victim: journals, commits and acknowledges forever, and prints what was confirmed.
#[test]
#[ignore = "run by the test below, which kills it"]
fn victim() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&dir));
        for round in 0.. {
            let names: Vec<String> = (0..8)
                .map(|n| format!("{}-{round}-{n}", std::process::id()))
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mails = journal(&store, &names).await;
            for mail in &mails {
                println!("\njournalled {}", mail.id());
            }
            let verdicts = mails.iter().zip(&names).take(6);
            let verdicts = verdicts
                .map(|(mail, name)| ticket(mail.id(), name))
                .collect();
            for committed in store.commit(verdicts).await.unwrap() {
                println!("\ndecided {}", committed.decision_id);
            }
            let due = store.due_acks("support", 99, i64::MAX).await.unwrap();
            store
                .acked(due.iter().map(|ack| ack.id).collect())
                .await
                .unwrap();
            for ack in due {
                println!("\nacked {}", ack.journal);
            }
        }
    });
}

#[test]
fn what_was_answered_survives_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut journalled = Vec::new();
    let mut decided = Vec::new();
    let mut acked = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::victim", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = 0;
        for line in lines.map_while(Result::ok) {
            let Some((what, id)) = line.split_once(' ') else {
                continue;
            };
            let list = match what {
                "journalled" => &mut journalled,
                "decided" => &mut decided,
                "acked" => &mut acked,
                _ => continue,
            };
            list.push(JournalId(id.parse().unwrap()));
            said += 1;
            // Everything that it printed before the kill is still read to the end.
            if said == 30 + round * 17 {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(said >= 30, "the victim died by itself after {said} lines");

        // A listing command runs first, while the log of the killed process is still there.
        let reader = beside(dir.path());
        assert!(imbalance(&*reader).is_empty());
        let store = open(dir.path());
        for id in &journalled {
            assert!(
                store.listings().raw(*id).unwrap().is_some(),
                "mail {id} was lost"
            );
        }
        let rows = store.listings().decisions(&Filter::default()).unwrap();
        let rows: Vec<i64> = rows.map(|row| row.unwrap().id.0).collect();
        for id in &decided {
            assert!(rows.contains(&id.0), "decision {id} was lost");
        }
        let due = runtime
            .block_on(store.due_acks("support", 9_999, i64::MAX))
            .unwrap();
        assert!(due.iter().all(|ack| !acked.contains(&ack.journal)));
        let seen: u64 = store
            .listings()
            .ledger(&Filter::default())
            .unwrap()
            .iter()
            .map(|row| row.seen)
            .sum();
        let pending = runtime.block_on(store.pending("support", 9_999)).unwrap();
        assert_eq!(seen as usize, rows.len() + pending.len());
        assert!(pending.iter().all(|mail| !decided.contains(&mail.id)));
        // Waiting mail can be decided, and no ticket number was issued twice.
        let verdicts = pending.iter().map(|mail| ticket(mail.id, "late")).collect();
        runtime.block_on(store.commit(verdicts)).unwrap();
        let items = store.listings().items(&Filter::default()).unwrap();
        let mut tickets: Vec<_> = items.map(|item| item.unwrap().ticket).collect();
        tickets.sort();
        let all = tickets.len();
        tickets.dedup();
        assert_eq!(tickets.len(), all);
        // The victim of the next round starts with everything decided.
        decided.extend(pending.iter().map(|mail| mail.id));
        runtime.block_on(store.close());
    }
}
