//! Reads `[proxy]`, the proxy of one mailbox or outgoing, and the environment's proxies.

use postroom_net::{HostPattern, InvalidProxy, Proxies, Proxy, ProxyRules};

use super::reader::{Item, Part, Section};

/// No proxy, in place of a URL.
const NONE: &str = "none";
const HELP: &str = "write \"http://proxy.example:3128\" for HTTP CONNECT, \"socks5://proxy.example:1080\" for SOCKS, or \"none\"";

/// Reads the proxies of every connection. What the configuration does not say comes from the environment, for HTTP only.
pub fn read(root: &Section) -> Option<Proxies> {
    let section = match root.item("proxy") {
        Some(item) => Some(item.section("proxy")?),
        None => None,
    };
    let item = |key| section.as_ref().and_then(|section| section.item(key));
    let http = item("http").map(|item| read_one(&item));
    let mail = item("mail").map(|item| read_one(&item));
    let direct = match item("no_proxy") {
        Some(item) => item.each(read_pattern),
        None => Some(environment_direct(root)),
    };
    let loopback = item("loopback").map_or(Some(false), |item| item.flag());
    if let Some(section) = section {
        section.finish();
    }
    let (https, http) = match http {
        Some(http) => {
            let http = http?;
            (http.clone(), http)
        }
        None => (
            from_environment(root, ["https_proxy", "HTTPS_PROXY"])?,
            from_environment(root, ["http_proxy", "HTTP_PROXY"])?,
        ),
    };
    Some(Proxies::new(ProxyRules {
        https,
        http,
        mail: mail.unwrap_or(Some(None))?,
        direct: direct?,
        loopback: loopback?,
    }))
}

/// Reads the key `proxy` of a mailbox or an outgoing: the only proxy of its connections, or none. Without the key they take those
/// of all.
pub fn read_own(section: &Section, all: Option<&Proxies>) -> Option<Proxies> {
    match section.item("proxy") {
        Some(item) => Some(read_one(&item)?.map_or_else(Proxies::default, Proxies::only)),
        // Problems of [proxy] are already reported.
        None => Some(all.cloned().unwrap_or_default()),
    }
}

/// Reads a URL, or a table with a URL, a user and a password. The inner `None` is "none".
fn read_one(item: &Item) -> Option<Option<Proxy>> {
    if !item.value().is_table() {
        return match item.text()? {
            NONE => Some(None),
            text => read_url(item, text).map(Some),
        };
    }
    let section = item.section("a proxy")?;
    let proxy = section
        .required("url", "add url = \"http://proxy.example:3128\"")
        .and_then(|item| read_url(&item, item.text()?));
    let user = section.item("user").map(|item| item.text());
    let password = section.item("password").map(|item| item.secret());
    section.finish();
    match (user, password) {
        (None, None) => proxy.map(Some),
        (Some(user), Some(password)) => {
            let (user, password) = (user?.to_owned(), password?);
            if password.is_err() {
                // The secret's own problem says what is missing.
                item.problem(
                    "has no password, and no connection may bypass the proxy",
                    "provide the password, or remove the proxy",
                );
            }
            let secret = password.ok()?.expose().to_owned();
            Some(Some(proxy?.with_credentials(user, secret.into())))
        }
        _ => {
            item.problem(
                "has only one of user and password",
                "write both, or none: user = \"…\", password = { env = \"NAME\" }",
            );
            None
        }
    }
}

fn read_url(item: &Item, text: &str) -> Option<Proxy> {
    match Proxy::parse(text) {
        Ok(proxy) if proxy.has_credentials() => {
            item.problem(
                "contains a user or password in clear text",
                "write { url = \"http://…\", user = \"…\", password = { env = \"NAME\" } }",
            );
            None
        }
        Ok(proxy) => Some(proxy),
        Err(why) => {
            item.problem(why.to_string(), HELP);
            None
        }
    }
}

fn read_pattern(item: &Item) -> Option<HostPattern> {
    let text = item.text()?;
    let pattern = HostPattern::parse(text);
    if pattern.is_none() {
        item.problem(
            format!("\"{text}\" names no host"),
            "write a domain such as \"corp.example\", which includes what is below it, an address, a network such as \"10.0.0.0/8\", or \"*\"",
        );
    }
    pattern
}

/// Returns the proxy in one of two variables. As with curl, the name in lower case comes first, an empty value means no proxy, and
/// a value without a scheme is an HTTP proxy.
fn from_environment(root: &Section, names: [&'static str; 2]) -> Option<Option<Proxy>> {
    let Some((name, value)) = names
        .into_iter()
        .find_map(|name| Some((name, variable(root, name)?)))
    else {
        return Some(None);
    };
    let url = match value.contains("://") {
        true => value,
        false => format!("http://{value}"),
    };
    Proxy::parse(&url)
        .map(Some)
        .map_err(|why| refuse(root, name, &why))
        .ok()
}

/// Reports a variable without its value, which may contain a password.
fn refuse(root: &Section, name: &str, why: &InvalidProxy) {
    root.reader.problem(
        Part::Whole,
        0,
        "proxy",
        format!("the environment variable {name} {why}"),
        "correct or unset it, or set http in [proxy], which comes before the environment",
    );
}

/// Returns the hosts of NO_PROXY. Entries of other programs' making are left out.
fn environment_direct(root: &Section) -> Vec<HostPattern> {
    let value = variable(root, "no_proxy").or_else(|| variable(root, "NO_PROXY"));
    let value = value.unwrap_or_default();
    value.split(',').filter_map(HostPattern::parse).collect()
}

fn variable(root: &Section, name: &str) -> Option<String> {
    let value = (root.reader.environment)(name)?.into_string().ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}
