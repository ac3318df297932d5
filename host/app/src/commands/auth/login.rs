//! `postroom auth login`: a sign-in by the profile's grant, with or without a terminal.

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use postroom_auth::expiry::Status;
use postroom_auth::{
    Account, AnswerError, AuthError, Code, CodeSignIn, Grant, PageReply, RedirectListener, Tokens,
};

use super::input::Lines;
use super::{account_of, explained, harmless, profile_of, tokens};
use crate::cli::Who;
use crate::commands::{load_with_warnings, print, runtime, with_tokens};

/// The redirect URL for pasting if none is configured: providers accept it for native applications.
const PASTED_REDIRECT: &str = "http://localhost";

pub fn login(
    config: &Path,
    who: &Who,
    manual: bool,
    timeout: Duration,
) -> anyhow::Result<ExitCode> {
    let config = load_with_warnings(config)?;
    let account = account_of(&config, who)?;
    runtime()?.block_on(async {
        let tokens = tokens(&config)?;
        let signed_in = async {
            let status = signed_in(&tokens, &account, manual, timeout).await?;
            report(&account, &status)?;
            Ok(ExitCode::SUCCESS)
        };
        with_tokens(&tokens, signed_in).await
    })
}

async fn signed_in(
    tokens: &Tokens,
    account: &Account,
    manual: bool,
    timeout: Duration,
) -> anyhow::Result<Status> {
    let profile = &*profile_of(tokens, account)?;
    match &profile.grant {
        Grant::AuthorizationCode { redirect, .. } => {
            by_code(tokens, account, redirect.as_deref(), manual, timeout).await
        }
        Grant::DeviceCode => by_device(tokens, account, timeout).await,
        Grant::ClientCredentials | Grant::Password { .. } | Grant::ServiceAccount(_) => {
            if manual {
                bail!(
                    "profile {} signs in by itself ({}): omit --manual",
                    profile.name,
                    profile.grant.name()
                );
            }
            let status = tokens.sign_in_directly(account).await;
            status.map_err(|error| explained(&error, Some(profile)))
        }
    }
}

async fn by_code(
    tokens: &Tokens,
    account: &Account,
    redirect: Option<&str>,
    manual: bool,
    timeout: Duration,
) -> anyhow::Result<Status> {
    let profile = &*profile_of(tokens, account)?;
    let failed = |error: AuthError| explained(&error, Some(profile));
    let listener = if manual {
        None
    } else {
        RedirectListener::bind(redirect)
            .await
            .context("listening for the redirect on this machine; free the port, or use --manual")?
    };
    let target = match &listener {
        Some(listener) => listener.url().to_owned(),
        None => redirect.unwrap_or(PASTED_REDIRECT).to_owned(),
    };
    let sign_in = tokens.begin_code(account, &target).await.map_err(failed)?;
    eprintln!("To sign in {account}, open this URL in a browser:\n");
    print(&sign_in.url)?;
    if listener.is_some() {
        eprintln!(
            "\nWaiting for {target}. If the browser is on another machine, paste the URL on which it ends."
        );
    } else {
        eprintln!(
            "\nThe browser ends on an address that begins with {target}; that page need not open.\n\
             Copy the whole address from the browser's address bar, paste it here, and press Enter."
        );
    }
    let answered = answer(&sign_in, listener);
    let (code, reply) = within(timeout, account, answered)
        .await?
        .map_err(|end| match end {
            NoAnswer::Refused(error) => explained(&error, Some(profile)),
            NoAnswer::InputEnded => {
                anyhow!("stdin ended before a URL was pasted: nobody signed in ({account})")
            }
        })?;
    let finished = tokens.finish_code(sign_in, code).await;
    match (&finished, reply) {
        (_, None) => {}
        (Ok(_), Some(reply)) => reply.signed_in().await,
        (Err(_), Some(reply)) => reply.failed().await,
    }
    finished.map_err(failed)
}

/// Why a sign-in page returned no code.
enum NoAnswer {
    Refused(AuthError),
    InputEnded,
}

/// Returns the code, from the listener or from a pasted line, whichever comes first, and the browser that waits for the
/// result.
async fn answer(
    sign_in: &CodeSignIn,
    listener: Option<RedirectListener>,
) -> Result<(Code, Option<PageReply>), NoAnswer> {
    let mut lines = Lines::of_stdin();
    let Some(listener) = listener else {
        return Ok((pasted(sign_in, &mut lines).await?, None));
    };
    let redirected = async {
        let (code, reply) = listener.wait(sign_in).await.map_err(NoAnswer::Refused)?;
        Ok::<_, NoAnswer>((code, Some(reply)))
    };
    tokio::pin!(redirected);
    tokio::select! {
        brought = &mut redirected => return brought,
        code = pasted(sign_in, &mut lines) => match code {
            // Nobody can paste: only the listener is left.
            Err(NoAnswer::InputEnded) => {}
            code => return Ok((code?, None)),
        },
    }
    redirected.await
}

/// Reads lines until one completes the sign-in; reports invalid lines and reads on.
async fn pasted(sign_in: &CodeSignIn, lines: &mut Lines) -> Result<Code, NoAnswer> {
    while let Some(line) = lines.next().await {
        if line.is_empty() {
            continue;
        }
        match sign_in.answer(&line) {
            Ok(code) => return Ok(code),
            Err(AnswerError::Refused(error)) => return Err(NoAnswer::Refused(error)),
            Err(
                error @ (AnswerError::WrongState | AnswerError::WrongIssuer | AnswerError::NoCode),
            ) => {
                eprintln!("This does not complete the sign-in: {error}. Paste the whole URL:");
            }
        }
    }
    Err(NoAnswer::InputEnded)
}

async fn by_device(
    tokens: &Tokens,
    account: &Account,
    timeout: Duration,
) -> anyhow::Result<Status> {
    let profile = &*profile_of(tokens, account)?;
    let failed = |error: AuthError| explained(&error, Some(profile));
    let sign_in = tokens.begin_device(account).await.map_err(failed)?;
    eprintln!("To sign in {account}, open this URL on any device, and type the code:\n");
    print(harmless(&sign_in.verification_url))?;
    print(harmless(&sign_in.user_code))?;
    if let Some(message) = &sign_in.message {
        eprintln!("\nThe provider says: {}", harmless(message));
    }
    eprintln!(
        "\nWaiting; the code is valid for {} minutes.",
        sign_in.expires_in.as_secs().div_ceil(60)
    );
    let finished = tokens.finish_device(sign_in);
    within(timeout, account, finished).await?.map_err(failed)
}

/// Waits for a person, with a time limit.
async fn within<T>(
    timeout: Duration,
    account: &Account,
    wait: impl Future<Output = T>,
) -> anyhow::Result<T> {
    tokio::time::timeout(timeout, wait).await.map_err(|_| {
        anyhow!("nobody signed in within {timeout:?} ({account}); run the command again, with a longer --timeout if needed")
    })
}

fn report(account: &Account, status: &Status) -> anyhow::Result<()> {
    let identity = status.identity.as_deref().map(harmless);
    match &identity {
        Some(identity) => print(format!("signed in: {account}, as {identity}"))?,
        None => print(format!("signed in: {account}"))?,
    }
    if let (Some(identity), Some(login)) = (&identity, &account.login)
        && is_another(identity, login)
    {
        eprintln!(
            "warning: the browser was signed in as {identity}, and not as {login}. These tokens open only what {identity} may open.\n\
             If {login} was meant: run the command again, and open the address in a private window of the browser.\n\
             If {identity} has full access to a shared mailbox: write login = \"{identity}\" to that mailbox and its outgoing, and sign in again."
        );
    }
    Ok(())
}

/// Returns whether another user signed in. An opaque id cannot be compared with an address.
fn is_another(identity: &str, login: &str) -> bool {
    identity.contains('@') == login.contains('@') && !identity.eq_ignore_ascii_case(login)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_person_is_told_from_another_spelling() {
        for (identity, login, another) in [
            ("eva@acme.example", "support@acme.example", true),
            ("Support@ACME.example", "support@acme.example", false),
            ("f3a9-opaque", "support@acme.example", false),
            ("eva", "support", true),
        ] {
            assert_eq!(is_another(identity, login), another, "{identity} {login}");
        }
    }
}
