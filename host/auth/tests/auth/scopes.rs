//! The scope and the resource of every token request: clouds, needs, app-only and delegated.

use postroom_auth::provider::CLOUDS;
use postroom_auth::{Need, Profile, Provider, Resource};

use crate::rig::{Rig, app_only, code_grant, delegated, requests_of, stand, words};

/// By cloud, according to Microsoft's pages: the hosts of delegated mail, app-only mail, and Graph.
const HOSTS: [(&str, &str, &str, &str); 4] = [
    (
        "global",
        "outlook.office.com",
        "outlook.office365.com",
        "graph.microsoft.com",
    ),
    (
        "gcc-high",
        "outlook.office365.us",
        "outlook.office365.us",
        "graph.microsoft.us",
    ),
    (
        "dod",
        "outlook-dod.office365.us",
        "outlook-dod.office365.us",
        "dod-graph.microsoft.us",
    ),
    (
        "china",
        "partner.outlook.cn",
        "partner.outlook.cn",
        "microsoftgraph.chinacloudapi.cn",
    ),
];

const NEEDS: [&[Need]; 10] = [
    &[Need::Imap],
    &[Need::Pop],
    &[Need::Smtp],
    &[Need::Graph],
    &[Need::Ews],
    &[Need::Imap, Need::Smtp],
    &[Need::Graph, Need::Ews],
    &[Need::Graph, Need::GraphShared, Need::GraphSend],
    &[Need::GraphShared, Need::GraphSendShared],
    &[Need::Imap, Need::Pop, Need::Smtp, Need::Graph, Need::Ews],
];

fn permissions(need: Need) -> &'static [&'static str] {
    match need {
        Need::Imap => &["IMAP.AccessAsUser.All"],
        Need::Pop => &["POP.AccessAsUser.All"],
        Need::Smtp => &["SMTP.Send"],
        Need::Graph => &["Mail.ReadWrite"],
        Need::GraphShared => &["Mail.ReadWrite.Shared"],
        Need::GraphSend => &["Mail.Send"],
        Need::GraphSendShared => &["Mail.Send.Shared"],
        Need::Ews => &["EWS.AccessAsUser.All"],
    }
}

fn resources(needs: &[Need]) -> Vec<Resource> {
    let mut resources: Vec<_> = needs.iter().map(|need| need.resource()).collect();
    resources.dedup();
    resources
}

fn in_cloud(name: &str, profile: Profile) -> Profile {
    let cloud = CLOUDS.iter().find(|cloud| cloud.name == name).unwrap();
    Profile {
        provider: Provider::Microsoft(cloud),
        ..profile
    }
}

#[tokio::test]
async fn an_app_only_request_names_its_clouds_resource() {
    for (cloud, _, mail, graph) in HOSTS {
        for (place, needs) in NEEDS.into_iter().enumerate() {
            let tenant = format!("{cloud}-app-{place}.example");
            let rig = Rig::new(in_cloud(cloud, app_only(&tenant)), None, needs);
            for resource in resources(needs) {
                let token = rig.tokens.access_token(&rig.account, resource).await;
                let token = token.unwrap();
                let host = match resource {
                    Resource::Graph => graph,
                    Resource::Mail | Resource::Ews => mail,
                };
                // Mail and EWS of an application are one scope, so one token serves both.
                let requests = rig.requests();
                let request = requests
                    .iter()
                    .find(|request| request.access_token.as_deref() == Some(token.expose()))
                    .unwrap();
                let name = format!("{tenant} {resource:?}");
                assert_eq!(
                    request.form["scope"],
                    format!("https://{host}/.default"),
                    "{name}"
                );
                assert_eq!(request.grant_type, "client_credentials", "{name}");
                assert_eq!(request.refresh_token, None, "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_users_request_names_one_resource_and_the_sign_in_all() {
    for (cloud, mail, _, graph) in HOSTS {
        for (place, needs) in NEEDS.into_iter().enumerate() {
            let tenant = format!("{cloud}-user-{place}.example");
            let user = "ana@contoso.example";
            let profile = in_cloud(cloud, delegated(&tenant, code_grant()));
            let rig = Rig::new(profile, Some(user), needs);
            let expected = |resource: Resource| -> Vec<String> {
                let host = if resource == Resource::Graph {
                    graph
                } else {
                    mail
                };
                needs
                    .iter()
                    .filter(|need| need.resource() == resource)
                    .flat_map(|need| permissions(*need))
                    .map(|permission| format!("https://{host}/{permission}"))
                    .chain(["offline_access".to_owned()])
                    .collect()
            };
            let status = rig.sign_in(user).await;
            assert_eq!(status.identity.as_deref(), Some(user), "{tenant}");

            let mut all: Vec<String> = resources(needs).into_iter().flat_map(expected).collect();
            all.extend(["openid".into(), "profile".into()]);
            all.sort();
            all.dedup();
            let page = page_of(&tenant);
            let mut asked = words(&page["scope"]);
            asked.sort_unstable();
            assert_eq!(asked, all, "{tenant}");

            let first = resources(needs)[0];
            for resource in resources(needs) {
                let token = rig.tokens.access_token(&rig.account, resource).await;
                let token = token.unwrap();
                let requests = rig.requests();
                let request = requests.last().unwrap();
                let name = format!("{tenant} {resource:?}");
                let mut scopes = expected(resource);
                if resource == first {
                    scopes.extend(["openid".into(), "profile".into()]);
                    assert_eq!(request.grant_type, "authorization_code", "{name}");
                } else {
                    assert_eq!(request.grant_type, "refresh_token", "{name}");
                }
                assert_eq!(words(&request.form["scope"]), scopes, "{name}");
                assert_eq!(
                    request.access_token.as_deref(),
                    Some(token.expose()),
                    "{name}"
                );
                assert!(request.refresh_token.is_some(), "{name}");
            }
            let asked = requests_of(&tenant).len();
            assert_eq!(asked, resources(needs).len(), "{tenant}");
        }
    }
}

#[tokio::test]
async fn configured_scopes_are_asked_for_as_they_are() {
    let user = "ana@contoso.example";
    let written = "offline_access https://outlook.office365.com/IMAP.AccessAsUser.All \
                   https://outlook.office365.com/SMTP.Send";
    let profile = Profile {
        scopes: Some(words(written).into_iter().map(String::from).collect()),
        ..delegated("as-written.example", code_grant())
    };
    let rig = Rig::new(profile, Some(user), &[Need::Imap, Need::Smtp]);
    let status = rig.sign_in(user).await;
    assert_eq!(status.identity, None, "nobody asked who it is");
    assert_eq!(page_of("as-written.example")["scope"], written);
    assert_eq!(rig.requests()[0].form["scope"], written);
}

fn page_of(tenant: &str) -> std::collections::BTreeMap<String, String> {
    let requests = stand().authority().authorize_requests().unwrap();
    let mut of_tenant = requests
        .into_iter()
        .filter(|request| request.tenant == tenant);
    of_tenant.next().unwrap().form
}
