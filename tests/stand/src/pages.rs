//! A person on the authorization server's pages, simulated by a small HTTP client with cookies: types the password and a
//! device's code, accepts or declines.

use std::path::Path;

use anyhow::{Context, Result, bail};
use url::form_urlencoded;

use crate::wire::Wire;

/// More pages than any sign-in has.
const MAX_PAGES: usize = 20;

/// A visitor with a fresh set of cookies.
pub(crate) struct Visitor<'a> {
    port: u16,
    ca_pem: &'a Path,
    user: &'a str,
    password: &'a str,
    accepts: bool,
    cookies: Vec<Cookie>,
}

struct Cookie {
    name: String,
    path: String,
    value: String,
}

/// The result of a request.
enum Step {
    /// A redirect within the server.
    Go(String),
    /// A redirect elsewhere: the end of a sign-in.
    Leave(String),
    Page(String),
}

impl<'a> Visitor<'a> {
    pub(crate) fn new(
        port: u16,
        ca_pem: &'a Path,
        user: &'a str,
        password: &'a str,
        accepts: bool,
    ) -> Self {
        Self {
            port,
            ca_pem,
            user,
            password,
            accepts,
            cookies: Vec::new(),
        }
    }

    /// Follows the pages from an authorize URL to the redirect that leaves the server.
    pub(crate) fn redirect(mut self, authorize_url: &str) -> Result<String> {
        match self.walk(authorize_url, None)? {
            Step::Leave(address) => Ok(address),
            Step::Page(page) => bail!("no redirect, but: {}", said(&page)),
            Step::Go(address) => bail!("no end, last at {address}"),
        }
    }

    /// Follows the pages of a device's code.
    pub(crate) fn device(mut self, page_url: &str, user_code: &str) -> Result<()> {
        let Step::Page(page) = self.walk(page_url, Some(user_code))? else {
            bail!("the device's page led elsewhere");
        };
        let over = if self.accepts {
            "You have signed in"
        } else {
            "was declined"
        };
        if said(&page).contains(over) {
            return Ok(());
        }
        bail!("the device's page said: {}", said(&page))
    }

    fn walk(&mut self, url: &str, user_code: Option<&str>) -> Result<Step> {
        let mut step = Step::Go(url.to_owned());
        let mut code = user_code;
        let mut signed_in = false;
        for _ in 0..MAX_PAGES {
            step = match step {
                Step::Leave(_) => return Ok(step),
                Step::Go(address) => self.request("GET", &address, "")?,
                Step::Page(page) => {
                    let mut fields = hidden_fields(&page);
                    if page.contains(r#"id="sign-in""#) {
                        if signed_in {
                            bail!("the sign-in page said: {}", said(&page));
                        }
                        signed_in = true;
                        fields.push(("user".into(), self.user.to_owned()));
                        fields.push(("password".into(), self.password.to_owned()));
                        fields.push(("do".into(), "sign-in".into()));
                    } else if page.contains(r#"id="accept""#)
                        || page.contains(r#"id="decline" name="do""#)
                    {
                        let choice = if self.accepts { "accept" } else { "decline" };
                        fields.push(("do".into(), choice.into()));
                    } else if page.contains(r#"id="user-code""#) {
                        let Some(code) = code.take() else {
                            return Ok(Step::Page(page));
                        };
                        fields.push(("user_code".into(), code.to_owned()));
                    } else if !page.contains(r#"id="next""#) {
                        return Ok(Step::Page(page));
                    }
                    let action = attribute(&page, "<form", "action").context("no form")?;
                    let body = form_urlencoded::Serializer::new(String::new())
                        .extend_pairs(fields)
                        .finish();
                    self.request("POST", &action, &body)?
                }
            };
        }
        bail!("more than {MAX_PAGES} pages, and no end")
    }

    fn request(&mut self, method: &str, address: &str, body: &str) -> Result<Step> {
        let origin = format!("https://localhost:{}", self.port);
        let path = address.strip_prefix(&origin).unwrap_or(address).to_owned();
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .filter(|cookie| path.starts_with(&cookie.path))
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        let cookies = cookies.join("; ");
        let mut headers = vec![("Accept", "text/html")];
        if !cookies.is_empty() {
            headers.push(("Cookie", &cookies));
        }
        if method == "POST" {
            headers.push(("Content-Type", "application/x-www-form-urlencoded"));
        }
        let answer = Wire::tls(self.port, self.ca_pem)?.exchange(
            method,
            &path,
            &headers,
            body.as_bytes(),
        )?;
        for (_, value) in answer
            .headers
            .iter()
            .filter(|(name, _)| name == "set-cookie")
        {
            self.keep(value);
        }
        Ok(match answer.header("location") {
            Some(to) if to.starts_with('/') || to.starts_with(&format!("{origin}/")) => {
                Step::Go(to.to_owned())
            }
            Some(to) => Step::Leave(to.to_owned()),
            None => Step::Page(String::from_utf8_lossy(&answer.body).into_owned()),
        })
    }

    /// Stores a cookie, replacing an older one of its name; a cookie without a value is dropped.
    fn keep(&mut self, set_cookie: &str) {
        let mut parts = set_cookie.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let path = parts
            .find_map(|part| part.strip_prefix("path="))
            .unwrap_or("/");
        self.cookies
            .retain(|cookie| cookie.name != name || cookie.path != path);
        if !value.is_empty() {
            self.cookies.push(Cookie {
                name: name.to_owned(),
                path: path.to_owned(),
                value: value.to_owned(),
            });
        }
    }
}

/// Returns an attribute of the first tag that begins with `tag`.
fn attribute(page: &str, tag: &str, name: &str) -> Option<String> {
    let (_, rest) = page.split_once(tag)?;
    let (tag, _) = rest.split_once('>')?;
    let (_, value) = tag.split_once(&format!(" {name}=\""))?;
    Some(value.split_once('"')?.0.to_owned())
}

fn hidden_fields(page: &str) -> Vec<(String, String)> {
    page.match_indices(r#"<input type="hidden""#)
        .filter_map(|(start, tag)| {
            let rest = &page[start..];
            Some((
                attribute(rest, tag, "name")?,
                attribute(rest, tag, "value")?,
            ))
        })
        .collect()
}

/// Returns the page's message, or the page if it has none.
fn said(page: &str) -> &str {
    page.split_once(r#"<p id="message">"#)
        .and_then(|(_, rest)| rest.split_once("</p>"))
        .map_or(page, |(message, _)| message)
}
