//! The brakes of automatic mail (RFC 3834): limits on what an address, a ticket and a tenant are sent within an hour.

use std::collections::BTreeMap;

use crate::thread::ticket_name;

/// How many replies and forwards may be sent within an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutomaticLimits {
    /// To one address, from one tenant.
    pub per_address: u32,
    /// For one ticket.
    pub per_ticket: u32,
    /// From one tenant.
    pub per_tenant: u32,
}

/// How many were sent within the last hour by one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SentLately {
    /// By person, see [`person`].
    pub persons: BTreeMap<String, u32>,
    /// For the mail's ticket.
    pub ticket: u32,
    pub tenant: u32,
}

/// A limit that holds a mail back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brake {
    /// The person, ticket or tenant that reached the limit.
    pub what: String,
    /// The reason, as text for people.
    pub reason: String,
}

impl Default for AutomaticLimits {
    fn default() -> Self {
        Self {
            per_address: 20,
            per_ticket: 20,
            per_tenant: 500,
        }
    }
}

impl SentLately {
    /// Counts a mail to these persons. Fails without counting it if a limit holds it back.
    pub(super) fn count(
        &mut self,
        limits: &AutomaticLimits,
        persons: &[String],
        ticket: Option<i64>,
    ) -> Result<(), Brake> {
        let over =
            |name: &&String| self.persons.get(*name).copied().unwrap_or(0) >= limits.per_address;
        if let Some(name) = persons.iter().find(over) {
            return Err(brake(name.clone(), "per_address", limits.per_address));
        }
        if let Some(ticket) = ticket
            && self.ticket >= limits.per_ticket
        {
            return Err(brake(ticket_name(ticket), "per_ticket", limits.per_ticket));
        }
        if self.tenant >= limits.per_tenant {
            return Err(brake("the tenant".into(), "per_tenant", limits.per_tenant));
        }
        for name in persons {
            *self.persons.entry(name.clone()).or_default() += 1;
        }
        self.ticket += 1;
        self.tenant += 1;
        Ok(())
    }
}

fn brake(what: String, limit: &str, most: u32) -> Brake {
    Brake {
        reason: format!(
            "{most} automatic mails left for {what} within an hour (limits.automatic.{limit})"
        ),
        what,
    }
}

/// Returns the mailbox behind an address in one spelling: `ann+printer@`, `Ann@` and `"ann"@` are one person, and a domain is the same in
/// Unicode and in its ASCII form (RFC 5890).
pub fn person(email: &str) -> String {
    let email = email.trim().to_lowercase();
    let Some((local, domain)) = email.rsplit_once('@') else {
        return email;
    };
    let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_owned());
    let local = unquoted(local);
    let end = local.find('+').filter(|at| *at > 0).unwrap_or(local.len());
    format!("{}@{domain}", &local[..end])
}

/// A local part without the quotes and escapes that it may be written with (RFC 5321 section 4.1.2).
fn unquoted(local: &str) -> String {
    let quoted = local.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    let Some(quoted) = quoted else {
        return local.to_owned();
    };
    let mut escaped = false;
    quoted
        .chars()
        .filter(|c| {
            let is_escape = *c == '\\' && !escaped;
            escaped = is_escape;
            !is_escape
        })
        .collect()
}

/// Whether an address is one of our own, which are given as [`person`] returns them.
pub fn is_own_address(own: &[String], email: &str) -> bool {
    let person = person(email);
    own.iter().any(|own| own.eq_ignore_ascii_case(&person))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_has_many_spellings() {
        for (email, expected) in [
            (" Ann@a.example ", "ann@a.example"),
            ("ann+1@a.example", "ann@a.example"),
            ("+1@a.example", "+1@a.example"),
            ("ann", "ann"),
        ] {
            assert_eq!(person(email), expected);
        }
    }

    #[test]
    fn our_own_addresses_are_known_in_every_spelling() {
        let own = ["support@acme.example".to_owned()];
        for email in [
            "support@acme.example",
            " Support+T-7@ACME.example",
            r#""support"@acme.example"#,
            r#""s\upport+x"@acme.example"#,
        ] {
            assert!(is_own_address(&own, email), "{email}");
        }
        let own = [person("hilfe@b\u{fc}cher.example")];
        for email in ["hilfe@xn--bcher-kva.example", "Hilfe@B\u{dc}CHER.example"] {
            assert!(is_own_address(&own, email), "{email}");
        }
        for email in ["supporter@acme.example", "support@acme.example.evil", ""] {
            assert!(!is_own_address(&own, email), "{email}");
        }
    }

    #[test]
    fn each_limit_holds_back_by_its_own_count() {
        let limits = AutomaticLimits {
            per_address: 2,
            per_ticket: 3,
            per_tenant: 4,
        };
        let mut sent = SentLately::default();
        let mut count = |persons: &[&str], ticket| {
            let persons: Vec<String> = persons.iter().map(|it| (*it).to_owned()).collect();
            sent.count(&limits, &persons, ticket)
                .map_err(|it| it.reason)
        };
        // Both of a mail's recipients are counted, and the mail once.
        assert_eq!(count(&["a", "a"], Some(7)), Ok(()));
        assert_eq!(
            count(&["b", "a"], Some(7)).unwrap_err(),
            "2 automatic mails left for a within an hour (limits.automatic.per_address)"
        );
        assert_eq!(count(&["b"], Some(7)), Ok(()));
        assert_eq!(count(&["c"], Some(7)), Ok(()));
        assert_eq!(
            count(&["d"], Some(7)).unwrap_err(),
            "3 automatic mails left for T-7 within an hour (limits.automatic.per_ticket)"
        );
        assert_eq!(count(&["d"], None), Ok(()));
        assert_eq!(
            count(&["e"], None).unwrap_err(),
            "4 automatic mails left for the tenant within an hour (limits.automatic.per_tenant)"
        );
    }
}
