//! Every grant and its variants: sign-in, a mail received and a reply sent, and the same again after the access token has
//! expired.

use std::panic::{AssertUnwindSafe, catch_unwind};

use postroom_e2e::grants::{Case, Walk, timestamp};
use postroom_e2e::short_lived;

#[test]
fn every_grant_carries_mail_and_renews_its_token() {
    let all = Case::all();
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let walks: Vec<_> = all
            .iter()
            .map(|case| (case, scope.spawn(|| walk(case))))
            .collect();
        walks
            .into_iter()
            .filter_map(|(case, walk)| walk.join().is_err().then_some(case.name.as_str()))
            .collect()
    });
    assert!(failed.is_empty(), "failed, see above: {failed:?}");
}

fn walk(case: &Case) {
    let walk = Walk::new(case, short_lived());
    let told = catch_unwind(AssertUnwindSafe(|| {
        walk.sign_in();
        walk.carry("first");
        walk.assert_requests();
        assert_status(&walk);
        let asked = walk.requests().len();
        walk.outlive_token();
        walk.carry("second");
        walk.assert_renewed(asked);
        walk.room.assert_balanced(2);
    }));
    if let Err(problem) = told {
        eprintln!("grants/{}: {}", case.name, case.about);
        std::panic::resume_unwind(problem);
    }
}

fn assert_status(walk: &Walk) {
    let (case, row) = (walk.case, walk.status());
    let name = &case.name;
    assert_eq!(row["state"], "ok", "{name}: {row:#}");
    assert_eq!(row["profile"], "acme", "{name}");
    assert_eq!(row["grant"], walk.grant.as_str(), "{name}");
    assert_eq!(row["scopes"], serde_json::json!(case.scopes), "{name}");
    let user = walk.room.user.as_str();
    let identity = row["identity"].as_str();
    assert_eq!(identity, case.identity.then_some(user), "{name}: {row:#}");
    let login = row["login"].as_str();
    assert_eq!(login, (!name.starts_with("app-")).then_some(user), "{name}");
    assert!(
        timestamp(&row["access_expires"]) > timestamp(&row["last_refresh"]),
        "{name}"
    );
}
