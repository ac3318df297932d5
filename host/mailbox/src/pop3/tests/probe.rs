//! The probe: each step is reported once, the failing one last, and the mailbox is unchanged.

use super::*;

/// Returns the steps with their details, and why the last one failed.
async fn probed(source: &mut Pop3Source) -> (Vec<(&'static str, String)>, Option<SourceError>) {
    let (mut steps, mut failed) = (Vec::new(), None);
    source
        .probe(&mut |step| match step.outcome {
            Ok(detail) => steps.push((step.step.name(), detail)),
            Err(error) => failed = Some(error),
        })
        .await;
    (steps, failed)
}

#[tokio::test]
async fn every_step_is_reported_and_the_mailbox_stays_as_it_is() {
    let server = Server::start(|_, line| match line {
        "TOP 3 0" => Act::Say(given(
            "Subject: =?utf-8?q?Dr=C3=BCcker?=\r\n\r\nprivate\r\n",
        )),
        _ => Act::Usual,
    })
    .await;
    let trace = Trace::new();
    let mut source = server.source();
    source.set_trace(trace.clone());
    let (steps, failed) = probed(&mut source).await;
    assert!(failed.is_none(), "{failed:?}");
    let names: Vec<&str> = steps.iter().map(|step| step.0).collect();
    assert_eq!(
        names,
        ["connect", "greeting", "authenticate", "list", "fetch"]
    );
    assert_eq!(steps[2].1, "USER as u@example");
    assert_eq!(steps[3].1, "3 mails");
    assert_eq!(steps[4].1, "newest mail: 40 bytes, \"Drücker\"");
    assert_eq!(
        server.commands(),
        ["STAT", "UIDL 3", "LIST 3", "TOP 3 0", "QUIT"]
    );
    let said: String = trace
        .take()
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    for line in [
        "C: PASS [redacted, 2 bytes]",
        "S: [mail, 46 bytes]",
        "S: TOP",
        "C: QUIT",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(!said.contains("private") && !said.contains("pw"), "{said}");
}

#[tokio::test]
async fn the_failing_step_is_the_last() {
    for (command, answer, step) in [
        ("PASS pw", "-ERR [AUTH] no", "authenticate"),
        ("PASS pw", "-ERR [IN-USE] locked", "select"),
        ("UIDL 3", "-ERR unknown command", "list"),
        ("STAT", "+OK 0 0", ""),
        ("TOP 3 0", "-ERR unknown command", ""),
        ("TOP 3 0", "-ERR [SYS/TEMP] later", "fetch"),
    ] {
        let server = Server::start(move |_, line| match line {
            line if line == command => say(answer),
            _ => Act::Usual,
        })
        .await;
        let (_, failed) = probed(&mut server.source()).await;
        let failed = failed.map_or("", |error| error.step().name());
        assert_eq!(failed, step, "{command} {answer}");
    }
}
