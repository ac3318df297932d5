//! The program `stand`: starts the test stand, prints how to reach it, and runs until Ctrl-C.

use anyhow::Result;
use postroom_stand::{
    CLIENT_ID, CLIENT_SECRET, DELEGATED_CLIENT_ID, DELEGATED_CLIENT_SECRET, MAIL_SCOPE, PASSWORD,
    PUBLIC_CLIENT_ID, Stand, WEBHOOK_SECRET,
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> Result<()> {
    let stand = Stand::start()?;
    println!("{}", description(&stand));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted,
                _ = terminate.recv() => Ok(()),
            }
        })?;
    println!("Taking the stand down.");
    Ok(())
}

/// Returns ports, credentials and a matching configuration for Postroom.
fn description(stand: &Stand) -> String {
    let ports = stand.ports();
    let dir = stand.dir().display();
    let ca = stand.ca_pem().display();
    let token_url = stand.token_url("acme");
    let hook = stand.webhook().url();
    format!(
        r#"The stand is up on localhost; Ctrl-C takes it down.

  imap {imap} (STARTTLS)   imaps {imaps}   pop3 {pop3} (STLS)   pop3s {pop3s}
  submission {submission} (STARTTLS)   submissions {submissions}   lmtp {lmtp}
  smtp sink {smtp}   webhook {hook}   token endpoint {token_url}
  EWS double {ews}
  Microsoft Graph {graph}
  Every address is a mailbox and a user who can sign in; the password is {PASSWORD}.
  applications: app-only {CLIENT_ID}   public {PUBLIC_CLIENT_ID}
    delegated {DELEGATED_CLIENT_ID} secret {DELEGATED_CLIENT_SECRET}
  Logs and mail: {dir}

A mail for the mailbox of the config below:
  python3 -c 'import smtplib; smtplib.LMTP("127.0.0.1", {lmtp}).sendmail("jo@outside.example",
    ["support@acme.example"], "From: jo@outside.example\r\nSubject: Printer on fire\r\n\r\nHelp.\r\n")'

export STAND_CLIENT_SECRET='{CLIENT_SECRET}' STAND_HOOK_SECRET='{WEBHOOK_SECRET}'

# postroom.toml
data_dir = "data"

[tls]
ca = "{ca}"

[profiles.stand]
provider = "custom"
token_url = "{token_url}"
client_id = "{CLIENT_ID}"
client_secret = {{ env = "STAND_CLIENT_SECRET" }}
grant = "client-credentials"
scopes = ["{MAIL_SCOPE}"]

[tenants.acme]
domains = ["acme.example"]

[mailboxes.acme-support]
tenant = "acme"
protocol = "imap"
host = "localhost"
port = {imaps}
tls = "implicit"
address = "support@acme.example"
profile = "stand"
import = "all"
after = {{ done = "move:Processed", failed = "move:Failed" }}
rules = ["standard"]
outgoing = "acme-out"

[outgoing.acme-out]
protocol = "smtp"
host = "localhost"
port = {submission}
tls = "starttls"
from = "Acme Support <support@acme.example>"
profile = "stand"

[sinks.psa]
kind = "webhook"
url = "{hook}"
secret = {{ env = "STAND_HOOK_SECRET" }}
"#,
        imap = ports.imap,
        imaps = ports.imaps,
        pop3 = ports.pop3,
        pop3s = ports.pop3s,
        submission = ports.submission,
        submissions = ports.submissions,
        lmtp = ports.lmtp,
        smtp = ports.smtp_sink,
        ews = stand.ews().url(),
        graph = stand.graph().base_url(),
    )
}
