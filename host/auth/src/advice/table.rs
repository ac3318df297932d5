//! Refusals as data: Microsoft's AADSTS numbers, each with its fix and what may end it. A new number is a new entry;
//! error words are in [`super::words`].
//!
//! Numbers: learn.microsoft.com, "Microsoft Entra authentication and authorization error codes". Names of pages are those
//! of the Entra admin center and the Google Cloud and Admin consoles in 2026. [`super::fill`] fills in words in braces; a
//! step with an unknown word is left out.

use crate::Remedy;

/// Numbers of temporary failures at Microsoft: the same request may succeed later.
pub(crate) const PASSING: &[u32] = &[
    40010, 50033, 50087, 50088, 50166, 70012, 80002, 80005, 80014, 90006, 90012, 90024, 90033,
    90055, 90090, 90091, 501621,
];

/// One kind of refusal. If two rows have the same number or word, the first that matches the grant and the provider is
/// used.
pub(super) struct Row {
    pub on: On,
    pub by: By,
    pub at: At,
    pub remedy: Remedy,
    pub text: &'static str,
    pub steps: &'static [&'static str],
}

/// The key of a row.
pub(super) enum On {
    Codes(&'static [u32]),
    Words(&'static [&'static str]),
}

/// The grants that a row applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Any,
    /// A person signed in: authorization code, device code.
    Person,
    Password,
    App,
    ServiceAccount,
}

/// The providers that a row applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Any,
    Google,
}

/// The row for a refusal that no other row matches.
pub(super) static UNKNOWN: Row = Row {
    on: On::Words(&[]),
    by: By::Any,
    at: At::Any,
    remedy: Remedy::Admin,
    text: "The authorization server refused for a reason that Postroom has no advice on; see the server's own text. Compare client_id, secret, scopes and addresses of profiles.{profile} with the registration at the provider.",
    steps: &[],
};

const fn codes(
    codes: &'static [u32],
    by: By,
    remedy: Remedy,
    text: &'static str,
    steps: &'static [&'static str],
) -> Row {
    Row {
        on: On::Codes(codes),
        by,
        at: At::Any,
        remedy,
        text,
        steps,
    }
}

pub(super) const fn words(
    words: &'static [&'static str],
    by: By,
    at: At,
    remedy: Remedy,
    text: &'static str,
    steps: &'static [&'static str],
) -> Row {
    Row {
        on: On::Words(words),
        by,
        at,
        remedy,
        text,
        steps,
    }
}

const SECRETS_PAGE: &str =
    "Entra admin center > Entra ID > App registrations > {app} > Certificates & secrets";
const AUTHENTICATION_PAGE: &str =
    "Entra admin center > Entra ID > App registrations > {app} > Authentication";
const CONSENT_PAGE: &str = "Entra admin center > Entra ID > App registrations > {app} > API permissions > Grant admin consent";
const APP_PERMISSIONS: &str = "Entra admin center > Entra ID > App registrations > {app} > API permissions > Add a permission > APIs my organization uses > Office 365 Exchange Online > Application permissions: IMAP.AccessAsApp, SMTP.SendAsApp";
const DELEGATED_PERMISSIONS: &str = "Entra admin center > Entra ID > App registrations > {app} > API permissions > Add a permission > Microsoft Graph > Delegated permissions: IMAP.AccessAsUser.All, SMTP.Send, offline_access";
const CONSENT_LINK: &str = "or let an admin of the client's directory open: {consent} (the application needs a redirect address for that)";
const SIGN_IN_LOGS: &str = "Entra admin center > Entra ID > Monitoring & health > Sign-in logs shows the policy that blocked";
const DIRECTORY_ID: &str =
    "Entra admin center > Entra ID > Overview shows the Tenant ID and the primary domain";
pub(super) const GOOGLE_CLIENTS: &str = "Google Cloud console > Google Auth Platform > Clients";
pub(super) const GOOGLE_AUDIENCE: &str = "Google Cloud console > Google Auth Platform > Audience";
pub(super) const GOOGLE_DELEGATION: &str = "Google Admin console > Security > Access and data control > API controls > Manage domain-wide delegation: add the client id of {service_account} with the scope {scopes}";
pub(super) const ANOTHER_GRANT: &str = "in postroom.toml, profiles.{profile}: grant = \"authorization-code\" or \"device-code\" without username and password, then: postroom auth login {profile}";

/// Microsoft's numbers.
pub(super) static CODES: &[Row] = &[
    codes(
        &[50072, 50074, 50076, 50078, 50079, 50158, 53004],
        By::Password,
        Remedy::Admin,
        "The user {account} must pass multi-factor authentication (MFA), which the password grant does not support. Let a person sign in once with another grant, or use client-credentials, which needs no user.",
        &[ANOTHER_GRANT],
    ),
    codes(
        &[50072, 50074, 50076, 50078, 50079, 50158, 53004],
        By::Any,
        Remedy::SignIn,
        "Multi-factor authentication (MFA) of {account} is missing, or was too long ago: sign in again and complete it. If this happens often, a Conditional Access policy limits how long a sign-in lasts; an app-only profile (client-credentials) needs no user.",
        &[],
    ),
    codes(
        &[50034, 50014, 50020, 51004, 90072, 500208],
        By::Any,
        Remedy::Admin,
        "The {directory} has no user {account}. Correct the login (a user name, not an alias) or the tenant of profiles.{profile}.",
        &["Entra admin center > Entra ID > Users shows the user principal name"],
    ),
    codes(
        &[50126, 50056, 50064],
        By::Password,
        Remedy::Admin,
        "The user name or the password of {account} is wrong, or another system checks passwords for the directory (federation), which the password grant does not support. Correct username and password of profiles.{profile}.",
        &[],
    ),
    codes(
        &[50126, 50056, 50064],
        By::Any,
        Remedy::SignIn,
        "The user name or the password of {account} was not accepted: sign in again.",
        &[],
    ),
    codes(
        &[50053],
        By::Any,
        Remedy::StayAway,
        "The account {account} is locked after too many wrong passwords, or this machine's address is on Microsoft's list of attackers. Find out where the wrong passwords come from, and unlock the account; Postroom retries only after an hour.",
        &[
            "Entra admin center > Entra ID > Monitoring & health > Sign-in logs, error code 50053, shows which of the two it is",
        ],
    ),
    codes(
        &[50055, 50125, 50135, 50144],
        By::Password,
        Remedy::Admin,
        "The password of {account} has expired or must be changed. Change it, store the new one where password of profiles.{profile} points to, and switch off password expiry for such accounts.",
        &[],
    ),
    codes(
        &[50055, 50125, 50135, 50144],
        By::Any,
        Remedy::SignIn,
        "The password of {account} has expired or must be changed: change it, then sign in again.",
        &[],
    ),
    codes(
        &[50057],
        By::Any,
        Remedy::Admin,
        "The account {account} is disabled. Enable it, or let the mailbox use another login.",
        &["Entra admin center > Entra ID > Users > {account} > Account status"],
    ),
    codes(
        &[50105],
        By::Any,
        Remedy::Admin,
        "Only assigned users may use this application, and {account} is not one of them. Assign the user, or switch the requirement off.",
        &[
            "Entra admin center > Entra ID > Enterprise apps > {app} > Users and groups, or Properties > Assignment required: No",
        ],
    ),
    codes(
        &[50132, 50133, 50173, 50089, 50085, 50139],
        By::Person,
        Remedy::SignIn,
        "The sign-in of {account} was ended: its password changed, or somebody revoked its sessions. Sign in again.",
        &[],
    ),
    codes(
        &[700084],
        By::Person,
        Remedy::SignIn,
        "The redirect address is registered for a single-page application (SPA), whose sign-ins always end after 24 hours. Register it under Mobile and desktop applications instead, or under Web with a client_secret, remove it under Single-page application, and sign in again.",
        &[AUTHENTICATION_PAGE],
    ),
    codes(
        &[70008, 700082, 70043, 70000],
        By::Person,
        Remedy::SignIn,
        "The sign-in of {account} has expired: it was unused for too long (90 days at Microsoft), or a Conditional Access policy limits how long one lasts. Sign in again.",
        &[],
    ),
    codes(
        &[
            50132, 50133, 50173, 50089, 50085, 50139, 70008, 700082, 700084, 70043, 70000,
        ],
        By::Any,
        Remedy::Admin,
        "The server reports that the credentials of profiles.{profile} have expired or were revoked. Check user name, password and secret.",
        &[],
    ),
    codes(
        &[54005],
        By::Any,
        Remedy::SignIn,
        "The code of this sign-in was used before; each code works only once. Start the sign-in again.",
        &[],
    ),
    codes(
        &[50147, 501481, 501491],
        By::Any,
        Remedy::SignIn,
        "The code belongs to another sign-in than the one that waited for it (PKCE). Start again, and use the URL that this sign-in prints.",
        &[],
    ),
    codes(
        &[70018, 70019],
        By::Any,
        Remedy::SignIn,
        "The code was mistyped, or typed too late. Start the sign-in again.",
        &[],
    ),
    codes(
        &[50058],
        By::Any,
        Remedy::SignIn,
        "The page must not show anything (prompt = \"none\"), but nobody was signed in with that browser. Remove prompt from profiles.{profile}, and sign in again.",
        &[],
    ),
    codes(
        &[65001, 90008, 90094, 90095],
        By::Person,
        Remedy::Admin,
        "Nobody has consented yet to the permissions of {app} in the {directory}. An admin of that directory can consent once for everybody; if users may consent themselves, sign in again to do so.",
        &[CONSENT_PAGE, CONSENT_LINK, "or: {sign_in}"],
    ),
    codes(
        &[65001, 90008, 90094, 90095],
        By::Any,
        Remedy::Admin,
        "Nobody has consented yet to the permissions of {app} in the {directory}. An admin of that directory has to consent once.",
        &[CONSENT_PAGE, CONSENT_LINK],
    ),
    codes(
        &[65004],
        By::Any,
        Remedy::SignIn,
        "The consent was declined on the page. Sign in again and accept, or let an admin consent for everybody.",
        &[CONSENT_PAGE, CONSENT_LINK],
    ),
    codes(
        &[650052, 650054],
        By::Any,
        Remedy::Admin,
        "The {directory} does not have the service that the token is for. Check that it has Exchange Online licences, and that the tenant of profiles.{profile} is the client's own.",
        &["Microsoft 365 admin center > Billing > Licenses"],
    ),
    codes(
        &[65005, 650056, 650057],
        By::App,
        Remedy::Admin,
        "The registration of {app} does not list the mail permissions, or nobody consented to them. Add them as application permissions of Office 365 Exchange Online, then consent.",
        &[APP_PERMISSIONS, CONSENT_PAGE],
    ),
    codes(
        &[65005, 650056, 650057],
        By::Any,
        Remedy::Admin,
        "The registration of {app} does not list the requested mail permissions, or nobody consented to them. Add them as delegated permissions, then consent.",
        &[DELEGATED_PERMISSIONS, CONSENT_PAGE],
    ),
    codes(
        &[90099],
        By::Any,
        Remedy::Admin,
        "The {directory} has not admitted {app}, and a partner's delegated administration (GDAP) does not do that automatically. An admin of the client consents to the application, or the partner registers the consent through the Partner Center API.",
        &[
            "an admin of the client's directory opens {consent} (the application needs a redirect address for that)",
            "Partner Center API: POST /v1/customers/CUSTOMER-ID/applicationconsents",
        ],
    ),
    codes(
        &[7000229],
        By::Any,
        Remedy::Admin,
        "{App} has no service principal (enterprise app) in the {directory}. It is created when an admin of that directory consents to the application.",
        &[
            "an admin of the client's directory opens {consent} (the application needs a redirect address for that)",
        ],
    ),
    codes(
        &[500021, 500022],
        By::Any,
        Remedy::Admin,
        "The network of this machine blocks sign-ins to the {directory} (tenant restrictions, which a proxy adds to requests). Ask the network's admin to allow the directory, or to exempt this machine from the proxy.",
        &["the header is Restrict-Access-To-Tenants; the proxy's rules name the directories"],
    ),
    codes(
        &[500212, 500213],
        By::Any,
        Remedy::Admin,
        "The cross-tenant access settings between the directory of {account} and the {directory} forbid this sign-in: 500212 is the outbound policy of the user's own directory, 500213 the inbound policy of the other. Let an admin there allow it, or use an account of the directory itself.",
        &["Entra admin center > Entra ID > External Identities > Cross-tenant access settings"],
    ),
    codes(
        &[700005],
        By::Any,
        Remedy::SignIn,
        "The code was issued by another directory than the {directory}. Write the directory of {account} to tenant of profiles.{profile}, and sign in again.",
        &[DIRECTORY_ID],
    ),
    codes(
        &[1000031],
        By::Any,
        Remedy::Admin,
        "{App} cannot be used at the moment because Microsoft or the {directory} has blocked it. Ask an admin to check the application's page, and mails from Microsoft about it.",
        &["Entra admin center > Entra ID > Enterprise apps > {app} > Properties"],
    ),
    codes(
        &[53011],
        By::Any,
        Remedy::Admin,
        "The account {account} counts as at risk in its own directory, and is blocked. Ask an admin of that directory to investigate and dismiss the risk, or change the password.",
        &["Entra admin center > Entra ID > ID Protection > Risky users"],
    ),
    codes(
        &[700020],
        By::Password,
        Remedy::Admin,
        "Microsoft requires {account} to sign in on a page, which the password grant does not have. Let a person sign in once with another grant.",
        &[ANOTHER_GRANT],
    ),
    codes(
        &[700020],
        By::Any,
        Remedy::SignIn,
        "Microsoft requires {account} to sign in on its page again.",
        &[],
    ),
    codes(
        &[700016, 700011],
        By::Any,
        Remedy::Admin,
        "The {directory} does not know {app}. Correct client_id (the Application (client) ID, not an Object ID) or tenant of profiles.{profile}; an application of another directory needs an admin's consent.",
        &[
            "Entra admin center > Entra ID > App registrations > Overview shows both ids",
            "an application of another directory: an admin of the client's directory opens {consent}",
        ],
    ),
    codes(
        &[70001, 7000112],
        By::Any,
        Remedy::Admin,
        "{App} is disabled in the {directory}. Enable it.",
        &[
            "Entra admin center > Entra ID > Enterprise apps > {app} > Properties > Enabled for users to sign-in: Yes",
        ],
    ),
    codes(
        &[7000215, 70002],
        By::Any,
        Remedy::Admin,
        "The client secret is wrong. Most often the secret's ID was pasted instead of its Value, which the page shows only directly after its creation: create a new one, and copy the column Value to where client_secret of profiles.{profile} points.",
        &[SECRETS_PAGE],
    ),
    codes(
        &[7000222],
        By::Any,
        Remedy::Admin,
        "The client secret has expired. Create a new one, copy its Value to where client_secret of profiles.{profile} points, and write its expiry date to secret_expires.",
        &[SECRETS_PAGE],
    ),
    codes(
        &[7000218, 900144],
        By::Person,
        Remedy::Admin,
        "The server expects this application to authenticate, but profiles.{profile} has neither client_secret nor certificate. Allow public client flows for it, or add its secret.",
        &[
            "Entra admin center > Entra ID > App registrations > {app} > Authentication > Settings > Allow public client flows: Yes",
            SECRETS_PAGE,
        ],
    ),
    codes(
        &[7000218, 900144],
        By::Password,
        Remedy::Admin,
        "The server expects this application to authenticate, but profiles.{profile} has neither client_secret nor certificate. Allow public client flows for it, or add its secret.",
        &[
            "Entra admin center > Entra ID > App registrations > {app} > Authentication > Settings > Allow public client flows: Yes",
        ],
    ),
    codes(
        &[7000218, 900144],
        By::Any,
        Remedy::Admin,
        "The request did not authenticate the application. Give profiles.{profile} a client_secret or a certificate.",
        &[SECRETS_PAGE],
    ),
    codes(
        &[700025],
        By::Any,
        Remedy::Admin,
        "{App} is registered as a public client, which has no secret. Remove client_secret or certificate from profiles.{profile}, or register the redirect address under the platform Web.",
        &[AUTHENTICATION_PAGE],
    ),
    codes(
        &[700027, 50012, 700030],
        By::Any,
        Remedy::Admin,
        "The certificate is not the one that is registered for {app}, or it has expired. Upload its public part, and compare the thumbprints.",
        &[
            "Entra admin center > Entra ID > App registrations > {app} > Certificates & secrets > Certificates",
        ],
    ),
    codes(
        &[700024, 500133],
        By::Any,
        Remedy::Admin,
        "The clock of this machine is wrong: for Microsoft, its signature is outside its validity period. Set the clock, and keep it right by NTP.",
        &["timedatectl shows whether the clock is synchronized"],
    ),
    codes(
        &[50013, 50027, 50048, 700021, 700023],
        By::Any,
        Remedy::Admin,
        "The certificate's signature is for another application or another URL. Check client_id, tenant and token_url of profiles.{profile}.",
        &[],
    ),
    codes(
        &[50001, 70011, 28000, 28002, 28003, 500011, 700022],
        By::Any,
        Remedy::Admin,
        "The scopes name something that the {directory} does not have, or several servers at once. Remove scopes from profiles.{profile}, so that they are derived from the mailbox; or write them as the provider lists them, for one server only.",
        &[],
    ),
    codes(
        &[50194],
        By::Any,
        Remedy::Admin,
        "{App} belongs to one directory, but `common` represents all. Write the client's directory id to tenant of profiles.{profile}, or make the application multitenant.",
        &[
            DIRECTORY_ID,
            "Entra admin center > Entra ID > App registrations > {app} > Authentication > Supported account types",
        ],
    ),
    codes(
        &[9001023, 50059, 50128, 90019, 9002332, 90124, 90130],
        By::Any,
        Remedy::Admin,
        "This grant needs one directory, not `common` or `consumers`. Write the client's directory id or one of its domains to tenant of profiles.{profile}.",
        &[DIRECTORY_ID],
    ),
    codes(
        &[90002],
        By::Any,
        Remedy::Admin,
        "There is no {directory}. Correct tenant of profiles.{profile}, and its cloud if the client is in a national one.",
        &[DIRECTORY_ID],
    ),
    codes(
        &[90038, 90043, 90051, 900382, 900432],
        By::Any,
        Remedy::Admin,
        "The {directory} is in another of Microsoft's clouds. Set cloud of profiles.{profile}: global, gcc-high, dod or china.",
        &[],
    ),
    codes(
        &[
            53000, 53001, 53002, 53003, 53010, 530032, 530034, 530035, 50005, 50097, 50129, 50131,
        ],
        By::Person,
        Remedy::Admin,
        "A Conditional Access policy or the security defaults of the {directory} block this sign-in. Many directories block device codes by default: grant = \"authorization-code\" is not affected. Otherwise ask an admin to exclude {account} or this machine's address from the policy.",
        &[
            SIGN_IN_LOGS,
            "Entra admin center > Entra ID > Conditional Access > Policies",
        ],
    ),
    codes(
        &[
            53000, 53001, 53002, 53003, 53010, 530032, 530034, 530035, 50005, 50097, 50129, 50131,
        ],
        By::Any,
        Remedy::Admin,
        "A Conditional Access policy or the security defaults of the {directory} block this sign-in. Ask an admin to exclude {app} or this machine's address from the policy.",
        &[
            SIGN_IN_LOGS,
            "Entra admin center > Entra ID > Conditional Access > Policies",
        ],
    ),
    codes(
        &[50196],
        By::Any,
        Remedy::StayAway,
        "Microsoft considers this application to be in a loop of requests, and refuses all of them for a while. Postroom retries only after an hour; look for another program that uses the same client id.",
        &[],
    ),
    codes(
        &[50011, 70004, 500112, 500113, 900971],
        By::Any,
        Remedy::Admin,
        "The redirect address of this sign-in is not registered for {app}. Register redirect_url of profiles.{profile} exactly as written; without redirect_url it is http://localhost, under Mobile and desktop applications.",
        &[AUTHENTICATION_PAGE],
    ),
    codes(
        &[70003, 70005],
        By::Any,
        Remedy::Admin,
        "{App} may not use this grant. Check grant of profiles.{profile} and the platforms of the registration.",
        &[AUTHENTICATION_PAGE],
    ),
    codes(
        &[50000],
        By::Any,
        Remedy::Admin,
        "Microsoft's sign-in service failed on this request. If this continues, open a support case with the correlation id.",
        &[],
    ),
];
