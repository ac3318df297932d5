//! Signing in and out: the tokens of a person's sign-in are stored like those of a refresh, whatever state the vault is
//! in.

use std::sync::Arc;

use super::slot::Slot;
use super::{Env, Tokens, blocking, renewal};
use crate::expiry::Status;
use crate::grant::{Granted, TokenRequest, authorization_code, device_code, unusable};
use crate::sign_in::{Code, CodeSignIn, DeviceSignIn};
use crate::vault::Record;
use crate::{Account, AuthError, Grant, Resource};

impl Tokens {
    /// Returns the URL of the sign-in page, with PKCE and a fresh state. The result will arrive at `redirect`.
    pub async fn begin_code(
        &self,
        account: &Account,
        redirect: &str,
    ) -> Result<CodeSignIn, AuthError> {
        let slot = self.slot(account)?;
        let profile = &slot.registration.profile;
        if !matches!(profile.grant, Grant::AuthorizationCode { .. }) {
            return Err(no_such_sign_in(&slot));
        }
        let endpoints = slot.registration.endpoints(&self.env, account).await?;
        let page = endpoints
            .authorize
            .ok_or_else(|| unusable(account, "it has no authorize address"))?;
        let scopes = profile.sign_in_scopes(&slot.used.needs);
        authorization_code::begin(profile, account, &page, &scopes, redirect)
    }

    /// Exchanges the code and stores the tokens.
    pub async fn finish_code(&self, sign_in: CodeSignIn, code: Code) -> Result<Status, AuthError> {
        let slot = self.slot(&sign_in.account)?.clone();
        let env = self.env.clone();
        self.finished(async move {
            let account = &slot.used.account;
            let token_url = slot.registration.endpoints(&env, account).await?.token;
            let scopes = first_scopes(&slot);
            let request = TokenRequest {
                exchange: &env.exchange(),
                profile: &slot.registration.profile,
                account,
                token_url: &token_url,
                scopes: &scopes,
            };
            let granted = authorization_code::exchange(&request, &sign_in, &code).await?;
            store(&env, &slot, &scopes, granted).await
        })
        .await
    }

    /// Requests a code that a person types on another device.
    pub async fn begin_device(&self, account: &Account) -> Result<DeviceSignIn, AuthError> {
        let slot = self.slot(account)?;
        let profile = &slot.registration.profile;
        if !matches!(profile.grant, Grant::DeviceCode) {
            return Err(no_such_sign_in(&slot));
        }
        let endpoints = slot.registration.endpoints(&self.env, account).await?;
        let device_url = endpoints
            .device
            .ok_or_else(|| unusable(account, "it has no device address"))?;
        let scopes = profile.sign_in_scopes(&slot.used.needs);
        device_code::begin(&self.env.exchange(), profile, account, &device_url, &scopes).await
    }

    /// Polls as often as the server allows, until the person has finished or declined, or the code has expired.
    pub async fn finish_device(&self, sign_in: DeviceSignIn) -> Result<Status, AuthError> {
        let slot = self.slot(&sign_in.account)?;
        let account = &slot.used.account;
        let token_url = slot.registration.endpoints(&self.env, account).await?.token;
        let scopes = first_scopes(&slot);
        let request = TokenRequest {
            exchange: &self.env.exchange(),
            profile: &slot.registration.profile,
            account,
            token_url: &token_url,
            scopes: &scopes,
        };
        let granted = device_code::finish(&request, sign_in).await?;
        let (env, slot) = (self.env.clone(), slot.clone());
        self.finished(async move { store(&env, &slot, &scopes, granted).await })
            .await
    }

    /// Returns a new token by a grant that needs no person, regardless of earlier failures.
    pub async fn sign_in_directly(&self, account: &Account) -> Result<Status, AuthError> {
        let slot = self.slot(account)?;
        if slot.registration.profile.grant.is_interactive() {
            return Err(no_such_sign_in(&slot));
        }
        let turn = slot.turn.take().await;
        let (env, slot) = (self.env.clone(), slot.clone());
        self.finished(async move {
            renewal::renew(&env, &slot, &first_scopes(&slot), true).await?;
            drop(turn);
            Ok(state(&env, &slot).await)
        })
        .await
    }

    /// Deletes everything stored for an account. Returns true if there was something.
    pub async fn sign_out(&self, account: &Account) -> Result<bool, AuthError> {
        let slot = self.slot(account)?;
        let _turn = slot.turn.take().await;
        let held = renewal::hold(&self.env, account).await?;
        let removed = blocking(move || held.remove())
            .await
            .map_err(|error| renewal::of_vault(account, error))?;
        slot.memory().forget_tokens();
        Ok(removed)
    }
}

/// Replaces everything stored for the account, since somebody else may have signed in.
async fn store(
    env: &Env,
    slot: &Arc<Slot>,
    scopes: &[String],
    granted: Granted,
) -> Result<Status, AuthError> {
    let account = &slot.used.account;
    let profile = &slot.registration.profile;
    let _turn = slot.turn.take().await;
    let held = renewal::hold(env, account).await?;
    let mut record = Record::new(account.clone(), profile.grant.name());
    renewal::enter(
        &mut record,
        &slot.registration,
        scopes,
        granted,
        env.clock.now(),
    );
    renewal::write(account, &held, &record).await?;
    let stamp = held.stamp();
    drop(held);
    let ended: Vec<Vec<String>> = {
        let mut memory = slot.memory();
        let ended = memory.tracks().iter().map(|it| it.scopes.clone()).collect();
        memory.forget_tokens();
        memory.adopt(&record, env.clock.now());
        memory.stamp = stamp;
        ended
    };
    for scopes in ended {
        renewal::succeeded(env, slot, &scopes);
    }
    Ok(state(env, slot).await)
}

/// Returns the scopes of the first resource: a token request names one, and the sign-in covers the others as well.
fn first_scopes(slot: &Slot) -> Vec<String> {
    let first = slot.used.needs.first();
    slot.scopes(first.map_or(Resource::Mail, |need| need.resource()))
}

async fn state(env: &Env, slot: &Arc<Slot>) -> Status {
    let (vault, slot, now) = (env.vault.clone(), slot.clone(), env.clock.now());
    blocking(move || slot.status(&vault, now)).await
}

fn no_such_sign_in(slot: &Slot) -> AuthError {
    let grant = slot.registration.profile.grant.name();
    unusable(
        &slot.used.account,
        format!("its grant {grant} is signed in to in another way"),
    )
}
