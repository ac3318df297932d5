//! Shared parts of the grant tests: profiles in their own tenants, and one account of each with its vault.

use std::sync::Arc;
use std::thread;

use jiff::Timestamp;
use postroom_auth::expiry::Status;
use postroom_auth::vault::{Vault, VaultKey};
use postroom_auth::{
    Account, AccountUse, AuthError, ClientCredential, Endpoints, Grant, Need, Profile, Secret,
    SendSecret, Tokens,
};
use postroom_stand::{PASSWORD, Stand, TokenRequest};
use tempfile::TempDir;

use crate::kit::{self, REDIRECT};

pub fn stand() -> &'static Stand {
    // It blocks during its start, which is not allowed on a runtime's own thread.
    thread::spawn(|| Stand::shared().unwrap()).join().unwrap()
}

/// Returns an app-only profile in its own tenant.
pub fn app_only(tenant: &str) -> Profile {
    Profile {
        name: tenant.into(),
        ..kit::app_only(tenant, microsoft(tenant))
    }
}

/// Returns a user's profile at a public application.
pub fn delegated(tenant: &str, grant: Grant) -> Profile {
    Profile {
        name: tenant.into(),
        grant,
        ..kit::delegated(tenant, microsoft(tenant))
    }
}

pub fn code_grant() -> Grant {
    Grant::AuthorizationCode {
        redirect: None,
        prompt: None,
    }
}

pub fn password_grant(user: &str) -> Grant {
    Grant::Password {
        username: user.into(),
        password: Secret::new(PASSWORD),
    }
}

/// Returns the stand's v2.0 URLs of a tenant.
pub fn microsoft(tenant: &str) -> Endpoints {
    kit::endpoints(stand(), tenant)
}

pub fn secret(value: &str) -> ClientCredential {
    ClientCredential::Secret {
        secret: Secret::new(value),
        previous: None,
        send: SendSecret::Body,
        expires: None,
    }
}

/// One account of one profile, with its own vault.
pub struct Rig {
    pub tokens: Arc<Tokens>,
    pub account: Account,
    tenant: String,
    _folder: TempDir,
}

impl Rig {
    pub fn new(profile: Profile, login: Option<&str>, needs: &[Need]) -> Self {
        Self::with(profile, login, needs, |tokens| tokens)
    }

    pub fn with(
        profile: Profile,
        login: Option<&str>,
        needs: &[Need],
        change: impl FnOnce(Tokens) -> Tokens,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path(), VaultKey::random().unwrap()).unwrap();
        let account = Account {
            profile: profile.name.clone(),
            login: login.map(String::from),
        };
        let tenant = profile.directory.clone().unwrap_or_default();
        let used = AccountUse {
            account: account.clone(),
            needs: needs.to_vec(),
        };
        Self {
            tokens: Arc::new(change(Tokens::new(
                kit::http(stand().ca_pem()),
                vec![profile],
                vec![used],
                vault,
            ))),
            account,
            tenant,
            _folder: folder,
        }
    }

    /// Returns the token requests of this rig's tenant so far.
    pub fn requests(&self) -> Vec<TokenRequest> {
        requests_of(&self.tenant)
    }

    /// Returns the failure of one token request, and checks that the server received `asked` requests.
    pub async fn failure(&self, asked: usize) -> AuthError {
        let before = self.requests().len();
        let error = self.tokens.sign_in_directly(&self.account).await;
        let error = error.expect_err("the token request was to fail");
        assert_eq!(self.requests().len() - before, asked, "{error}");
        error
    }

    /// Signs in on the pages at the end of a code's sign-in; returns the status that `auth status` would print.
    pub async fn sign_in(&self, user: &str) -> Status {
        let sign_in = self
            .tokens
            .begin_code(&self.account, REDIRECT)
            .await
            .unwrap();
        let redirect = stand()
            .sign_in_by_http(&sign_in.url, user, PASSWORD)
            .unwrap();
        let code = sign_in.answer(&redirect).unwrap();
        self.tokens.finish_code(sign_in, code).await.unwrap()
    }

    pub fn status(&self) -> Status {
        self.tokens.statuses(Timestamp::now()).unwrap().remove(0)
    }
}

pub fn requests_of(tenant: &str) -> Vec<TokenRequest> {
    let mut requests = stand().authority().token_requests().unwrap();
    requests.retain(|request| request.tenant == tenant);
    requests
}

/// Returns the fields that prove the application's identity.
pub fn proof(request: &TokenRequest) -> Vec<&str> {
    let mut fields: Vec<_> = [
        "client_id",
        "client_secret",
        "client_assertion_type",
        "client_assertion",
    ]
    .into_iter()
    .filter(|name| request.form.contains_key(*name))
    .collect();
    if request.basic {
        fields.push("basic");
    }
    fields
}

/// Returns the words of a `scope`, in order.
pub fn words(scope: &str) -> Vec<&str> {
    scope.split_whitespace().collect()
}
