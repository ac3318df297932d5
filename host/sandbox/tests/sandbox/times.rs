//! Time zones and business hours, and the requests for locales that the interpreter would ignore.

use postroom_sandbox::RuleTrouble;

use crate::support::{decide, says, script};

fn refusal(expression: &str) -> String {
    let text = format!("export function decide(mail, ctx) {{ {expression} }}");
    match decide(&script(&text).unwrap()).verdict {
        Err(RuleTrouble::Failure { message, location }) => {
            format!("{}: {message}", location.unwrap_or_default())
        }
        verdict => panic!("{expression}: {verdict:?}"),
    }
}

#[test]
fn a_time_is_shown_in_its_zone() {
    // The context's time is 2025-11-03T09:00:01.500Z, a Monday.
    assert_eq!(
        says("ctx.local(ctx.now, 'Europe/Berlin').iso"),
        "2025-11-03T10:00:01+01:00"
    );
    assert_eq!(
        says("JSON.stringify(ctx.local('2026-07-04T23:30:00Z', 'america/new_york'))"),
        r#"{"year":2026,"month":7,"day":4,"hour":19,"minute":30,"second":0,"weekday":6,"offsetSecs":-14400,"iso":"2026-07-04T19:30:00-04:00"}"#
    );
    assert_eq!(
        says("ctx.open('Europe/Berlin', 'Mon-Fri 08:00-17:30')"),
        "true"
    );
    assert_eq!(
        says("ctx.open('Asia/Tokyo', 'Mon-Fri 08:00-17:30')"),
        "false"
    );
    assert_eq!(
        says("ctx.open('Europe/Berlin', 'Sat 09:00-12:00', '2026-12-05T08:00:00Z')"),
        "true"
    );
}

#[test]
fn what_is_no_zone_or_time_is_named() {
    let unknown = refusal("return ignore(ctx.local(ctx.now, 'Berlin').iso)");
    assert!(
        unknown.contains("ctx.local: there is no time zone \"Berlin\""),
        "{unknown}"
    );
    let unknown = refusal("return ignore(ctx.local('noon', 'Europe/Berlin').iso)");
    assert!(unknown.contains("\"noon\" is no time"), "{unknown}");
    let unknown = refusal("return ctx.open('Europe/Berlin', '9 to 5') ? [] : []");
    assert!(
        unknown.contains("ctx.open: \"9 to 5\" cannot be read as hours"),
        "{unknown}"
    );
}

#[test]
fn locales_are_refused_and_never_ignored() {
    for call in [
        "new Date().toLocaleDateString('de-DE', { timeZone: 'Europe/Berlin' })",
        "new Date().toLocaleString('de-DE')",
        "new Date().toLocaleTimeString(undefined, { timeZone: 'Europe/Berlin' })",
    ] {
        let refused = refusal(&format!("return ignore({call})"));
        assert!(
            refused.contains("use ctx.local(time, \"Europe/Berlin\")") && refused.contains(":1:"),
            "{call}: {refused}"
        );
    }
    let refused = refusal("return ignore((1.5).toLocaleString('de-DE'))");
    assert!(refused.contains("toLocaleString: locales"), "{refused}");
    assert_eq!(says("(1.5).toLocaleString()"), "1.5");
    assert!(says("new Date().toLocaleDateString()").contains("2025"));
}

#[test]
fn a_misspelt_name_is_named_with_its_line_and_the_nearest() {
    for (text, expected) in [
        (
            "mail.feild('x')",
            "mail.feild does not exist; did you mean mail.field?",
        ),
        (
            "mail.from2",
            "mail.from2 does not exist; did you mean mail.from?",
        ),
        (
            "ctx.tennant",
            "ctx.tennant does not exist; did you mean ctx.tenant?",
        ),
        ("ctx.whatever", "ctx.whatever does not exist"),
        (
            "mail.subject.trimm()",
            "mail.subject.trimm is not a function",
        ),
        ("helper(1)", "helper is not defined"),
        ("(helper => helper(1))(2)", "helper is not a function"),
        ("new mail.subject()", "mail.subject is not a"),
        (
            "mail.from.name.x.y",
            "cannot read property 'y' of undefined",
        ),
    ] {
        let refused = refusal(&format!("\n  return ignore(String({text}))"));
        assert!(refused.contains(expected), "{text}: {refused}");
        assert!(refused.contains(":2:"), "{text}: {refused}");
    }
    // What every object may be asked for.
    for harmless in [
        "`${typeof mail.then}`",
        "JSON.stringify(ctx).length > 0",
        "'subject' in mail",
        "String(ctx)",
    ] {
        let _ = says(harmless);
    }
}
