//! Advice on each kind of trouble with a mail server or a webhook receiver, as data. A new kind of trouble is a new row.
//!
//! [`super::Place::advice`] fills in the words in braces. `{ports}`, `{let_in}`, `{send_as}` and `{cover}` stand for several steps, or for none.

/// A kind of trouble with its own advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    UnknownHost,
    NobodyListens,
    NoRoute,
    ProxyUnreachable,
    ProxySilent,
    ProxyCredentials,
    ProxyForbids,
    ProxyCannotConnect,
    NotAProxy,
    NoGreeting,
    /// Without TLS: the port may expect TLS.
    NoGreetingInClear,
    NoStartTls,
    /// The port may expect STARTTLS.
    NoTlsFromFirstByte,
    StartTlsBroken,
    CertificateName,
    CertificateTime,
    CertificateAuthority,
    NoTlsAgreement,

    SignInNeedsTls,
    PasswordExpired,
    PasswordRefused,
    NoPasswordsAtExchange,
    AppPassword,
    BrowserSignIn,
    ApplicationRefused,
    UserTokenRefused,
    ServiceAccountRefused,
    GoogleTokenRefused,
    CustomTokenRefused,
    SignInNotChecked,
    SmtpAuthOff,
    NoPasswordsForSending,
    NoSignIn,
    NoSuchSignIn,

    ApiTokenRefused,

    NotConnected,
    ApplicationNotCovered,
    UserNotCovered,
    ApplicationOpensTooMuch,
    UserOpensTooMuch,
    NoMailbox,
    SessionEnded,
    FolderMissing,
    FolderForbidden,
    NoMoveThere,
    FilesForbidden,
    OverLimit,
    OverQuota,
    InUse,
    NoUniqueIds,
    MailboxBroken,

    ApplicationMayNotSend,
    UserMayNotSend,
    NoSendAs,
    SenderRefused,
    MailRefused,
    AnswerLost,

    /// Over HTTPS.
    NoHttps,
    ReceiverMoved,
    ReceiverForbids,
    NoReceiverThere,
    ReceiverBusy,
    ReceiverFailed,
    EventRefused,
    NoSuchTest,

    NoMailServer,
    Unusable,
    Passing,

    BasicRefused,
    NoEwsMailbox,
    NoEws,
}

/// The advice on a kind of trouble.
pub(super) struct Row {
    pub text: &'static str,
    pub steps: &'static [&'static str],
}

const POWER_SHELL: &str = "# In PowerShell, after Connect-ExchangeOnline:";
const PROFILE_FOR_PASSWORD: &str = "[{key}] profile = \"NAME\" in place of password";
const PROXY: &str = "[proxy], or proxy in [{key}], or the variable HTTPS_PROXY names the proxy";
const STATUS: &str = "postroom auth status";

/// Returns the advice on a kind of trouble.
pub(super) const fn row(trouble: Trouble) -> Row {
    match trouble {
        Trouble::UnknownHost => say(
            "{host} has no known address: the name is wrong, or this machine's DNS does not respond.",
            &["[{key}] {host_setting}", "getent hosts {host}"],
        ),
        Trouble::NobodyListens => say(
            "{host} is reachable, but nothing listens at port {port}. Correct the port, or start the server.",
            &["{ports}"],
        ),
        Trouble::NoRoute => say(
            "This machine cannot reach {host}, port {port}: a firewall drops the connection, or the network is down. If the network has a proxy, name it.",
            &[
                "nc -vz {host} {port}",
                "[proxy] http = \"http://…\" for Graph, EWS and webhooks, mail = \"socks5://…\" for IMAP, POP3 and SMTP",
            ],
        ),
        Trouble::ProxyUnreachable => say(
            "The connection to {host} goes through a proxy, and the proxy cannot be reached: its name or port is wrong, or it is down. The error names it. Servers of your own network can be exempt from it.",
            &[PROXY, "[proxy] no_proxy = [\"{host}\"]"],
        ),
        Trouble::ProxySilent => say(
            "The proxy made no connection to {host}, port {port}, in time. It cannot reach the server, or it is a proxy of another kind: http:// is for HTTP CONNECT, socks5:// for SOCKS. Its log shows more.",
            &[PROXY],
        ),
        Trouble::ProxyCredentials => say(
            "The proxy requires another user or password than it was given.",
            &[
                "[proxy] http = { url = \"http://…\", user = \"…\", password = { env = \"NAME\" } }",
                "[proxy] mail = { url = \"socks5://…\", user = \"…\", password = { env = \"NAME\" } }",
            ],
        ),
        Trouble::ProxyForbids => say(
            "The proxy's rules do not allow a connection to {host}, port {port}. Many proxies allow port 443 only: have its administrator allow this one, or take another proxy.",
            &[PROXY],
        ),
        Trouble::ProxyCannotConnect => say(
            "The proxy could not connect to {host}, port {port}. The proxy resolves the name: check it on the proxy's machine. A server of your own network can be exempt from the proxy.",
            &["{ports}", "[proxy] no_proxy = [\"{host}\"]"],
        ),
        Trouble::NotAProxy => say(
            "What answers at the proxy's address is not such a proxy. Correct its port or its scheme: http:// for HTTP CONNECT, socks5:// for SOCKS.",
            &[PROXY],
        ),
        Trouble::NoGreeting => say(
            "The connection was made, but no mail server sent a greeting. Most likely another protocol or a firewall uses this port, or the server is overloaded.",
            &["{ports}"],
        ),
        Trouble::NoGreetingInClear => say(
            "The connection was made, but no mail server sent a greeting in clear text. Most likely the port expects TLS from the first byte: write tls = \"implicit\". Otherwise another program listens there, or the server is overloaded.",
            &["{ports}"],
        ),
        Trouble::NoStartTls => say(
            "The server offers no STARTTLS here. Use the port with TLS from the first byte, and tls = \"implicit\"; Postroom never signs in without TLS.",
            &["{ports}"],
        ),
        Trouble::NoTlsFromFirstByte => say(
            "The server does not use TLS from the first byte on this port. Most likely the port requires STARTTLS: write tls = \"starttls\", or use the port for TLS.",
            &["{ports}"],
        ),
        Trouble::StartTlsBroken => say(
            "The server accepted STARTTLS, but sent no TLS afterwards. Most likely it cannot read its certificate or its key; its log names the reason.",
            &["{certificate}"],
        ),
        Trouble::CertificateName => say(
            "The server's certificate is not for the name {host}. Write the name in the certificate as {host_key}.",
            &["{certificate}"],
        ),
        Trouble::CertificateTime => say(
            "The server's certificate has expired or is not valid yet. Either it was not renewed, or this machine's clock is wrong.",
            &["date --utc", "{certificate}"],
        ),
        Trouble::CertificateAuthority => say(
            "The certificate of {host} is not signed by an authority that this machine trusts. Add a private authority's certificate to the configuration. If {host} belongs to a large provider, a firewall in between inspects TLS: add that firewall's authority.",
            &["[tls] ca = \"authority.pem\"", "{certificate}"],
        ),
        Trouble::NoTlsAgreement => say(
            "The server and Postroom could not agree on TLS. Postroom needs TLS 1.2 or 1.3; old servers and firewalls that inspect TLS may not support it.",
            &["{certificate}"],
        ),

        Trouble::SignInNeedsTls => say(
            "The server accepts no sign-in on this connection; usually it requires TLS first.",
            &["{ports}"],
        ),
        Trouble::PasswordExpired => say(
            "The password of {user} has expired. Set a new one, and write it where the configuration reads it from.",
            &[],
        ),
        Trouble::PasswordRefused => say(
            "User or password is wrong, or the server does not let {user} sign in. Providers switch off passwords for mail programs: use a profile, which signs in with OAuth.",
            &["[{key}] login = \"…\", password = { env = \"NAME\" }"],
        ),
        Trouble::NoPasswordsAtExchange => say(
            "Exchange Online accepts no passwords for {protocol}. Sign in with OAuth: give the mailbox a profile.",
            &[PROFILE_FOR_PASSWORD],
        ),
        Trouble::AppPassword => say(
            "Gmail does not accept the account's own password. Sign in with OAuth through a profile; if that is not possible, use an app password of an account with 2-step verification.",
            &[
                PROFILE_FOR_PASSWORD,
                "https://myaccount.google.com/apppasswords",
            ],
        ),
        Trouble::BrowserSignIn => say(
            "Google considers this sign-in suspicious. Sign in as {user} in a browser once and confirm that it was you; then test again.",
            &["https://accounts.google.com/DisplayUnlockCaptcha"],
        ),
        Trouble::ApplicationRefused => say(
            "The application has a token, but Exchange denies it access to {user}. Exchange must know it by the Object ID of the enterprise application, and it needs rights on this mailbox; a change takes up to an hour. The application permission {app_permission} must also be granted with admin consent.",
            &["{let_in}"],
        ),
        Trouble::UserTokenRefused => say(
            "There is a token, but Exchange does not accept it for {user}. The account that signed in must be {user} itself or have Full Access to it (a shared mailbox: address = the mailbox, login = the user who signs in), it must have consented to {permission}, and {protocol} must be allowed for the mailbox.",
            &[STATUS, POWER_SHELL, "{allow_protocol}"],
        ),
        Trouble::ServiceAccountRefused => say(
            "There is a token, but Gmail does not accept it for {user}. The service account needs domain-wide delegation for the scope https://mail.google.com/, {user} must be a user of that domain, and its Gmail must be switched on with IMAP allowed.",
            &[
                "Google Admin console > Security > Access and data control > API controls > Domain-wide delegation",
            ],
        ),
        Trouble::GoogleTokenRefused => say(
            "There is a token, but Gmail does not accept it for {user}. Sign in as {user} in the browser, but not as another account; in a company's domain an administrator must allow {protocol} but this application.",
            &[
                STATUS,
                "Google Admin console > Apps > Google Workspace > Gmail > End User Access",
            ],
        ),
        Trouble::CustomTokenRefused => say(
            "There is a token, but {host} does not accept it for {user}. A mail server cannot tell an invalid, an expired and another user's token apart: it must use the same authorization server as this profile, the token must be {user}'s or open every mailbox, and its scope must be the one that the server requires.",
            &[
                STATUS,
                "the mail server's log names the reason; for Dovecot: auth_verbose = yes",
            ],
        ),
        Trouble::SignInNotChecked => say(
            "The server cannot check sign-ins at the moment; usually it cannot reach the authorization server. The token is not at fault, and Postroom retries by itself. If this continues, ask the server's administrator to investigate.",
            &[],
        ),
        Trouble::SmtpAuthOff => say(
            "Exchange Online refuses this sign-in because of a rule of the organization. Usually SMTP AUTH is switched off, for the organization or for {user}: an administrator can switch it on. With a password the cause may also be security defaults or Conditional Access, which no setting of the mailbox overrides: then sign in with a profile.",
            &[
                POWER_SHELL,
                "Set-CASMailbox -Identity '{quoted_user}' -SmtpClientAuthenticationDisabled $false",
                "Get-TransportConfig | Format-List SmtpClientAuthenticationDisabled",
                "# The mailbox's own switch overrides the organization's. For all mailboxes:",
                "Set-TransportConfig -SmtpClientAuthenticationDisabled $false",
            ],
        ),
        Trouble::NoPasswordsForSending => say(
            "Exchange Online no longer accepts passwords for sending. Sign in with OAuth: give the outgoing a profile.",
            &[PROFILE_FOR_PASSWORD],
        ),
        Trouble::NoSignIn => say(
            "The server requires a sign-in before it accepts mail, but the outgoing has none.",
            &["[{key}] profile = \"NAME\", or password = { env = \"NAME\" }"],
        ),
        Trouble::NoSuchSignIn => say(
            "The server offers no sign-in of this kind here. Submission is at port 587 (tls = \"starttls\") or 465 (\"implicit\"), not at 25; on your own Exchange server the connector must allow it.",
            &["{ports}"],
        ),

        Trouble::NotConnected => say(
            "The sign-in is valid, but its user has no access to the mailbox {user}. Either the right to the mailbox is missing, or the token belongs to another user than the requested mailbox, or {protocol} is switched off for it. Exchange responds the same way for a while after too many short sessions.",
            &["{let_in}"],
        ),
        Trouble::ApiTokenRefused => say(
            "There is a token, and {host} does not accept it. It must be a token for {host}: the profile's cloud must be the one of the mailbox, and scopes written in the profile must name this server and no other. After a change of Conditional Access a new sign-in may be needed.",
            &[STATUS],
        ),
        Trouble::ApplicationNotCovered => say(
            "The token is good, and the application has no access to {user}: neither a role assignment nor an application access policy covers this mailbox, or the change has not arrived yet, which takes up to two hours.",
            &["{cover}"],
        ),
        Trouble::UserNotCovered => say(
            "The token is good, and the account that signed in has no access to {user}. It needs Full Access to the mailbox, and the permission {permission} (of another's mailbox: {permission}.Shared) among those that it consented to.",
            &["{let_in}", STATUS],
        ),
        Trouble::ApplicationOpensTooMuch => say(
            "The application opens {user}, which it must not. Permissions add up: remove {app_permission} from the application's permissions in Entra, where it opens every mailbox, and grant it in Exchange with a scope.",
            &[
                "Entra admin center > Enterprise applications > the application > Permissions",
                "Get-ManagementRoleAssignment -RoleAssigneeType ServicePrincipal | Format-List Role, App, CustomResourceScope",
                "Get-ApplicationAccessPolicy",
            ],
        ),
        Trouble::UserOpensTooMuch => say(
            "The account that signed in opens {user}, which it must not. Remove its right to the mailbox.",
            &[
                POWER_SHELL,
                "Get-MailboxPermission -Identity '{quoted_user}'",
                "Remove-MailboxPermission -Identity '{quoted_user}' -User USER -AccessRights FullAccess",
            ],
        ),
        Trouble::NoMailbox => say(
            "The token is good, and there is no mailbox {user} in Exchange Online. The address must be the user principal name or the primary address of a mailbox that lies there, not on a server of the organization, and has a licence or is shared.",
            &[
                POWER_SHELL,
                "Get-Mailbox -Identity '{quoted_user}' | Format-List PrimarySmtpAddress, UserPrincipalName, RecipientTypeDetails",
            ],
        ),
        Trouble::SessionEnded => say(
            "The sign-in was accepted, but then the server ended the session or could not open the mailbox. Exchange does this after too many short sessions: wait a few minutes and test again. If it continues, treat it as a missing permission.",
            &["{let_in}"],
        ),
        Trouble::FolderMissing => say(
            "The mailbox was opened, but has no folder {folder}. Write its name as the mail program shows it, including the folders above it, with the server's separator (usually / or .).",
            &["[{key}] folder = \"…\""],
        ),
        Trouble::FolderForbidden => say(
            "Folder {folder} exists, but {user} may not open it. Grant the right to read the folder, and to change it if `after` marks, moves or deletes mail.",
            &["{let_in}"],
        ),
        Trouble::NoMoveThere => say(
            "Decided mail could not be moved there. Name another folder in `after`, with the prefix and the separator that the server uses.",
            &["[{key}] after = { done = \"move:…\" }"],
        ),
        Trouble::FilesForbidden => say(
            "The folder must belong to the user that runs Postroom, with the right to create, move and remove files in it, and its disk must not be full.",
            &["ls -ld {folder}"],
        ),
        Trouble::OverLimit => say(
            "The server's limit on connections or commands of {user} is reached. Close other mail programs of this mailbox, let fewer mailboxes share one user, or raise the server's limit (mail_max_userip_connections at Dovecot). Postroom retries by itself.",
            &[],
        ),
        Trouble::OverQuota => say("The mailbox is full. Remove mail, or raise its quota.", &[]),

        Trouble::InUse => say(
            "Another session has the mailbox open, and this server opens it for one at a time. Close other programs that read {user} by POP3, or give them another protocol. A session that was cut off may hold the mailbox for 10 minutes. Postroom tries again by itself.",
            &[],
        ),
        Trouble::NoUniqueIds => say(
            "This POP3 server has no UIDL command, so Postroom cannot recognize a mail that it has already read. Read the mailbox by IMAP, or have the server forward its mail to another mailbox.",
            &["[{key}] protocol = \"imap\""],
        ),
        Trouble::MailboxBroken => say(
            "The server reports a permanent failure of its own (SYS/PERM), such as a damaged mailbox. The sign-in is not the cause. The server's administrator must repair it; the server's log has the reason.",
            &[],
        ),

        Trouble::ApplicationMayNotSend => say(
            "The token is good, and the application may not send from {user}. It needs the permission Mail.Send for this mailbox and, while read_back is true, Mail.ReadWrite. A change takes up to two hours to arrive.",
            &["{cover}", "[{key}] read_back = false needs Mail.Send only"],
        ),
        Trouble::UserMayNotSend => say(
            "The token is good, and the account that signed in may not send from {user}. It needs the permission Mail.Send and, while read_back is true, Mail.ReadWrite, to which it consented (of another's mailbox: Mail.Send.Shared and Mail.ReadWrite.Shared, with Full Access and Send As).",
            &[
                "{let_in}",
                "{send_as}",
                "[{key}] read_back = false needs Mail.Send only",
                STATUS,
            ],
        ),
        Trouble::NoSendAs => say(
            "{sender} is signed in, but has no right to send as {address}. Give it Send As.",
            &["{send_as}"],
        ),
        Trouble::SenderRefused => say(
            "The server does not let {sender} send as {address}. Give it that right, or write the address of the mailbox that signs in as `from`.",
            &["{let_in}"],
        ),
        Trouble::MailRefused => say(
            "The server accepts mail from Postroom, but not this one. Its response states the reason: usually the recipient's address, or a limit or filter of the server.",
            &[],
        ),
        Trouble::AnswerLost => say(
            "The mail was sent completely, but the server's reply was lost. Check whether it arrived; then test again.",
            &[],
        ),

        Trouble::NoHttps => say(
            "The connection is made, and what answers does not speak TLS as an HTTPS server does. Correct the port of the url. http:// is for this machine only.",
            &["{ports}"],
        ),
        Trouble::ReceiverMoved => say(
            "The receiver answers with a redirect. Webhooks follow none, because a signed event goes to the configured address only. Write the final address.",
            &["[{key}] url = \"https://…\""],
        ),
        Trouble::ReceiverForbids => say(
            "The receiver refuses the request before it reads it. Most likely it checks the signature with another secret than Postroom signs with, or it wants a key in the url.",
            &["[{key}] secret = { env = \"NAME\" }, the same as at the receiver"],
        ),
        Trouble::NoReceiverThere => say(
            "The server is there, and has nothing at this path that takes a POST request. Correct the path of the url.",
            &["[{key}] url = \"https://…\""],
        ),
        Trouble::ReceiverBusy => say(
            "The receiver refuses because it gets too many requests. The service waits as long as the receiver asks it to and tries again, and no event is lost.",
            &[],
        ),
        Trouble::ReceiverFailed => say(
            "The receiver, or a proxy before it, failed on the request: its log has the reason. The service tries again, and no event is lost.",
            &[],
        ),
        Trouble::EventRefused => say(
            "The receiver is reached and refuses the test event. A receiver that knows no event of type postroom.test may refuse it and take every real event: look at its log.",
            &[],
        ),
        Trouble::NoSuchTest => say(
            "An outgoing is tested with a mail, a sink with an event.",
            &[
                "--send-to ADDRESS, for an outgoing",
                "--send-event, for a sink",
            ],
        ),

        Trouble::NoMailServer => say(
            "The server does not behave like a mail server. Its administrator can find more in its log; `--trace` prints the conversation.",
            &[],
        ),
        Trouble::BasicRefused => say(
            "User or password is wrong, or the server takes no passwords for EWS: Basic authentication is switched on for its virtual directory. The user is written as the server knows it, such as DOMAIN\\user or user@domain. NTLM is not supported.",
            &[
                "[{key}] login = \"…\", password = { env = \"NAME\" }",
                "# In the Exchange Management Shell:",
                "Get-WebServicesVirtualDirectory | Set-WebServicesVirtualDirectory -BasicAuthentication $true",
            ],
        ),
        Trouble::NoEwsMailbox => say(
            "The sign-in is valid, and its user has no way into the mailbox {address}. With impersonation = true the user needs the role ApplicationImpersonation, without it Full Access to the mailbox; an application needs the permission {app_permission}. The address must be a mailbox of this server.",
            &[
                "# In the Exchange Management Shell, the one or the other:",
                "New-ManagementRoleAssignment -Role ApplicationImpersonation -User '{quoted_user}'",
                "Add-MailboxPermission -Identity '{quoted_address}' -User '{quoted_user}' -AccessRights FullAccess",
            ],
        ),
        Trouble::NoEws => say(
            "What answers at {host} is not Exchange Web Services. The url mostly ends in /EWS/Exchange.asmx, and no sign-in page, proxy or redirect may stand before it.",
            &["{ports}"],
        ),
        Trouble::Unusable => say(
            "[{key}] cannot be used with its current settings. Correct them as the error describes.",
            &["postroom check"],
        ),
        Trouble::Passing => say(
            "The server or the network failed during the test. Postroom retries by itself, and no mail is lost. Test again in a few minutes.",
            &[],
        ),
    }
}

const fn say(text: &'static str, steps: &'static [&'static str]) -> Row {
    Row { text, steps }
}
