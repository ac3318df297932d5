//! Providers as data: hosts, paths, resources and scopes. A new cloud is a new row.

use serde::{Deserialize, Serialize};

/// The purpose of a token for a mailbox or an outgoing. It determines the scopes of a token request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    Imap,
    Pop,
    Smtp,
    /// Reading and changing the signed-in user's own mailbox.
    Graph,
    /// The same in mailboxes of others that the user may open.
    GraphShared,
    /// Sending as the signed-in user.
    GraphSend,
    /// Sending from mailboxes of others.
    GraphSendShared,
    Ews,
}

/// The server that accepts a token. A token request names one resource (AADSTS70011, AADSTS28000); a sign-in may name
/// several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// IMAP, POP3 and SMTP.
    Mail,
    Graph,
    Ews,
}

impl Need {
    pub fn resource(self) -> Resource {
        match self {
            Need::Imap | Need::Pop | Need::Smtp => Resource::Mail,
            Need::Graph | Need::GraphShared | Need::GraphSend | Need::GraphSendShared => {
                Resource::Graph
            }
            Need::Ews => Resource::Ews,
        }
    }
}

/// The operator of the authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    Microsoft(&'static Cloud),
    Google,
    Custom,
}

/// One of Microsoft's clouds (learn.microsoft.com, "National clouds"). The hosts of the sovereign ones are from Microsoft's
/// pages and were never tried.
#[derive(Debug, PartialEq, Eq)]
pub struct Cloud {
    pub name: &'static str,
    pub login_host: &'static str,
    /// The host in the scopes of delegated mail and EWS tokens.
    pub delegated_mail_host: &'static str,
    pub mail_host: &'static str,
    pub smtp_host: &'static str,
    pub graph_host: &'static str,
    /// The argument of `Connect-ExchangeOnline -ExchangeEnvironmentName`; `None` for the default.
    pub exchange_environment: Option<&'static str>,
    /// The argument of `Connect-MgGraph -Environment`; `None` for the default.
    pub graph_environment: Option<&'static str>,
}

pub const CLOUDS: &[Cloud] = &[
    Cloud {
        name: "global",
        login_host: "login.microsoftonline.com",
        delegated_mail_host: "outlook.office.com",
        mail_host: "outlook.office365.com",
        smtp_host: "smtp.office365.com",
        graph_host: "graph.microsoft.com",
        exchange_environment: None,
        graph_environment: None,
    },
    Cloud {
        name: "gcc-high",
        login_host: "login.microsoftonline.us",
        delegated_mail_host: "outlook.office365.us",
        mail_host: "outlook.office365.us",
        smtp_host: "smtp.office365.us",
        graph_host: "graph.microsoft.us",
        exchange_environment: Some("O365USGovGCCHigh"),
        graph_environment: Some("USGov"),
    },
    Cloud {
        name: "dod",
        login_host: "login.microsoftonline.us",
        delegated_mail_host: "outlook-dod.office365.us",
        mail_host: "outlook-dod.office365.us",
        smtp_host: "outlook-dod.office365.us",
        graph_host: "dod-graph.microsoft.us",
        exchange_environment: Some("O365USGovDoD"),
        graph_environment: Some("USGovDoD"),
    },
    Cloud {
        name: "china",
        login_host: "login.partner.microsoftonline.cn",
        delegated_mail_host: "partner.outlook.cn",
        mail_host: "partner.outlook.cn",
        smtp_host: "smtp.partner.outlook.cn",
        graph_host: "microsoftgraph.chinacloudapi.cn",
        exchange_environment: Some("O365China"),
        graph_environment: Some("China"),
    },
];

/// The delegated permissions for each need at Microsoft; each is prefixed with the resource's host.
const MICROSOFT_PERMISSIONS: &[(Need, &[&str])] = &[
    (Need::Imap, &["IMAP.AccessAsUser.All"]),
    (Need::Pop, &["POP.AccessAsUser.All"]),
    (Need::Smtp, &["SMTP.Send"]),
    (Need::Graph, &["Mail.ReadWrite"]),
    (Need::GraphShared, &["Mail.ReadWrite.Shared"]),
    (Need::GraphSend, &["Mail.Send"]),
    (Need::GraphSendShared, &["Mail.Send.Shared"]),
    (Need::Ews, &["EWS.AccessAsUser.All"]),
];

/// Google has one scope for IMAP, POP3 and SMTP.
const GOOGLE_MAIL_SCOPE: &str = "https://mail.google.com/";

/// The lifetime of an unused refresh token (learn.microsoft.com, "Refresh tokens"); each use restarts it.
const MICROSOFT_REFRESH_DAYS: i64 = 90;

impl Provider {
    /// Returns the scopes of one token request: those of `needs` that belong to `resource`. `app_only` is true for a
    /// service that signs in as itself.
    pub fn scopes(self, resource: Resource, needs: &[Need], app_only: bool) -> Vec<String> {
        match self {
            Provider::Microsoft(cloud) => {
                let host = match (resource, app_only) {
                    (Resource::Graph, _) => cloud.graph_host,
                    (Resource::Mail | Resource::Ews, true) => cloud.mail_host,
                    (Resource::Mail | Resource::Ews, false) => cloud.delegated_mail_host,
                };
                if app_only {
                    return vec![format!("https://{host}/.default")];
                }
                let mut scopes: Vec<String> = MICROSOFT_PERMISSIONS
                    .iter()
                    .filter(|(need, _)| need.resource() == resource && needs.contains(need))
                    .flat_map(|(_, permissions)| permissions.iter())
                    .map(|permission| format!("https://{host}/{permission}"))
                    .collect();
                if !scopes.is_empty() {
                    scopes.push("offline_access".into());
                }
                scopes
            }
            Provider::Google if resource == Resource::Mail => vec![GOOGLE_MAIL_SCOPE.into()],
            Provider::Google | Provider::Custom => Vec::new(),
        }
    }

    /// Returns the days after which an unused refresh token expires, if the provider documents them.
    pub fn refresh_days(self) -> Option<i64> {
        match self {
            Provider::Microsoft(_) => Some(MICROSOFT_REFRESH_DAYS),
            Provider::Google | Provider::Custom => None,
        }
    }

    /// Returns the parameters of an authorization request beyond the standard's.
    pub fn authorize_extras(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // Without these Google returns no refresh token, or only at the first consent.
            Provider::Google => &[("access_type", "offline"), ("prompt", "consent")],
            Provider::Microsoft(_) | Provider::Custom => &[],
        }
    }

    pub fn imap_host(self) -> Option<&'static str> {
        match self {
            Provider::Microsoft(cloud) => Some(cloud.mail_host),
            Provider::Google => Some("imap.gmail.com"),
            Provider::Custom => None,
        }
    }

    pub fn pop_host(self) -> Option<&'static str> {
        match self {
            Provider::Microsoft(cloud) => Some(cloud.mail_host),
            Provider::Google => Some("pop.gmail.com"),
            Provider::Custom => None,
        }
    }

    pub fn smtp_host(self) -> Option<&'static str> {
        match self {
            Provider::Microsoft(cloud) => Some(cloud.smtp_host),
            Provider::Google => Some("smtp.gmail.com"),
            Provider::Custom => None,
        }
    }

    /// Returns the authorize, token and device URLs. `tenant` is Microsoft's directory; the result is `None` for a custom
    /// provider.
    pub fn urls(self, tenant: &str) -> Option<[String; 3]> {
        match self {
            Provider::Microsoft(cloud) => {
                let host = cloud.login_host;
                Some(
                    ["authorize", "token", "devicecode"]
                        .map(|name| format!("https://{host}/{tenant}/oauth2/v2.0/{name}")),
                )
            }
            Provider::Google => Some([
                "https://accounts.google.com/o/oauth2/v2/auth".into(),
                "https://oauth2.googleapis.com/token".into(),
                "https://oauth2.googleapis.com/device/code".into(),
            ]),
            Provider::Custom => None,
        }
    }
}
