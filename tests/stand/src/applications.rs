//! The applications registered with the authorization server, and the keys that some of them prove their identity with.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

/// The confidential application that acts as itself (client credentials), in a single directory.
pub const CLIENT_ID: &str = "7c9d1a52-3e0b-4a57-9d55-0c4f1f6b2a10";
/// Its secret.
pub const CLIENT_SECRET: &str = "Xq8Q~stand.client-secret_0123456789";
/// Its second secret, valid at the same time.
pub const SECOND_CLIENT_SECRET: &str = "Yr9R~stand.second-secret_9876543210";
/// The application with a certificate: client credentials, and a user's sign-ins.
pub const CERTIFICATE_CLIENT_ID: &str = "2f1c6b0e-8f0d-4d6c-9a6d-5b7f3e1d4c20";
/// The public application: authorization code with PKCE, device code, password.
pub const PUBLIC_CLIENT_ID: &str = "a5e3f7d4-0b1c-4e2a-8f3d-6c9b8a7d5e30";
/// The confidential application that users sign in to, in a single directory: authorization code with PKCE, device code.
pub const DELEGATED_CLIENT_ID: &str = "d0b9c8a7-4f5e-4a3b-9c2d-1e0f9a8b7c40";
/// Its secret. It contains characters that Basic authentication must escape.
pub const DELEGATED_CLIENT_SECRET: &str = "Zs0S~stand.delegated+secret/%41=56";
/// The Google-like application: authorization code, device code; its refresh tokens are not rotated.
pub const GOOGLE_CLIENT_ID: &str = "314159265358-stand.apps.googleusercontent.com";
/// Its secret.
pub const GOOGLE_CLIENT_SECRET: &str = "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28";
/// The Google-like service account, which may act as every user.
pub const SERVICE_ACCOUNT: &str = "postroom@stand-project.iam.gserviceaccount.com";

/// The app-only scope that opens mailboxes.
pub const MAIL_SCOPE: &str = "https://outlook.office365.com/.default";
/// An app-only scope that is granted but opens no mailbox.
pub const OTHER_SCOPE: &str = "https://graph.microsoft.com/.default";
/// A user's scopes for IMAP and SMTP, with a refresh token.
pub const USER_SCOPES: &str = "https://outlook.office.com/IMAP.AccessAsUser.All \
    https://outlook.office.com/SMTP.Send offline_access";
/// Google's scope for IMAP, POP3 and SMTP.
pub const GOOGLE_SCOPE: &str = "https://mail.google.com/";

/// Returns the applications in the form of the server's configuration.
pub(crate) fn registered() -> Value {
    let application = |id: &str, kind: &str, single_tenant: bool, secrets: &[&str]| {
        json!({
            "client_id": id, "kind": kind, "single_tenant": single_tenant, "secrets": secrets, "redirects": [],
        })
    };
    json!([
        application(
            CLIENT_ID,
            "app-only",
            true,
            &[CLIENT_SECRET, SECOND_CLIENT_SECRET]
        ),
        application(CERTIFICATE_CLIENT_ID, "certificate", true, &[]),
        application(PUBLIC_CLIENT_ID, "public", false, &[]),
        application(
            DELEGATED_CLIENT_ID,
            "delegated",
            true,
            &[DELEGATED_CLIENT_SECRET]
        ),
        application(GOOGLE_CLIENT_ID, "google", false, &[GOOGLE_CLIENT_SECRET]),
    ])
}

/// Returns a self-signed certificate for an RSA key (PKCS#8 PEM) that expires `days` from now; with a negative number it
/// has expired.
pub(crate) fn certify(key_pem: &str, days: i64) -> Result<String> {
    let key = KeyPair::from_pkcs8_pem_and_sign_algo(key_pem, &rcgen::PKCS_RSA_SHA256)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let end = i64::try_from(now.as_secs())? + days * 86_400;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut certificate = CertificateParams::new(Vec::new())?;
    certificate
        .distinguished_name
        .push(DnType::CommonName, "Postroom test application");
    certificate.not_before = epoch;
    certificate.not_after = epoch + Duration::from_secs(u64::try_from(end)?);
    Ok(certificate.self_signed(&key)?.pem())
}

/// Returns a service account's key file, as the Google Cloud console gives it.
pub(crate) fn service_account_json(key_pem: &str, token_url: &str) -> String {
    json!({
        "type": "service_account",
        "project_id": "stand-project",
        "private_key_id": "0123456789abcdef0123456789abcdef01234567",
        "private_key": key_pem,
        "client_email": SERVICE_ACCOUNT,
        "client_id": "112233445566778899000",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": token_url,
        "universe_domain": "googleapis.com",
    })
    .to_string()
}
