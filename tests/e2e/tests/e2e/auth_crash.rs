//! Kills around a refresh, and lost responses: the vault stays readable, and a lost token is reported at once instead of
//! causing a loop.

use postroom_e2e::both;
use postroom_e2e::grants::{Case, Walk};
use postroom_e2e::short_lived;
use postroom_stand::{AuthorityFailure, Endpoint, Only};

const POINTS: [&str; 3] = [
    "before-token-request",
    "before-token-stored",
    "after-token-stored",
];

/// Returns a case after sign-in and one mail, with an expired access token: the next run begins with a refresh.
fn with_an_ended_token(case: &Case) -> Walk<'_> {
    let walk = Walk::new(case, short_lived());
    walk.sign_in();
    walk.carry("first");
    walk.outlive_token();
    walk
}

/// Checks that the next refresh is refused permanently, once, and that a new sign-in fixes it.
fn assert_asks_for_a_sign_in(walk: &Walk) {
    let asked = walk.requests().len();
    let refused = walk.room.postroom(&["run", "--once"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("postroom auth login acme"), "{said}");
    let requests = walk.requests();
    assert_eq!(requests.len(), asked + 1, "{requests:#?}\n{said}");

    let listed = walk.room.postroom(&["auth", "status", "--json"]);
    assert_eq!(listed.status.code(), Some(1), "{}", both(&listed));
    let row: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("a JSON line");
    assert_eq!(row["state"], "failed", "{row:#}");
    let advice = row["advice"].as_str().unwrap();
    assert!(
        advice.contains("lost") && advice.contains("auth login"),
        "{advice}"
    );

    // A failure that was already reported is not reported again, by any process.
    assert_eq!(
        walk.room.postroom(&["run", "--once"]).status.code(),
        Some(1)
    );
    assert_eq!(walk.requests().len(), asked + 1);

    walk.sign_in();
    walk.carry("second");
    walk.room.assert_balanced(2);
}

#[test]
fn before_the_request_nothing_is_lost() {
    let case = Case::named("code-public");
    let walk = with_an_ended_token(&case);
    let asked = walk.requests().len();
    walk.room.once_killed_at(POINTS[0]);
    assert_eq!(walk.requests().len(), asked);
    walk.carry("second");
    walk.assert_renewed(asked);
}

#[test]
fn between_the_answer_and_the_vault_the_new_token_is_lost_and_said_to_be() {
    let case = Case::named("code-public");
    let walk = with_an_ended_token(&case);
    walk.room.once_killed_at(POINTS[1]);
    assert_asks_for_a_sign_in(&walk);
}

#[test]
fn once_it_is_in_the_vault_the_next_process_uses_it() {
    let case = Case::named("code-public");
    let walk = with_an_ended_token(&case);
    let asked = walk.requests().len();
    walk.room.once_killed_at(POINTS[2]);
    walk.carry("second");
    walk.assert_renewed(asked);
}

#[test]
fn an_answer_lost_on_its_way_is_told_at_once() {
    let case = Case::named("device-public");
    let walk = with_an_ended_token(&case);
    let directory = walk.room.directory();
    let only = Only {
        tenant: Some(&directory),
        ..Only::default()
    };
    let authority = walk.room.stand.authority();
    authority
        .fail_only(Endpoint::Token, 1, only, AuthorityFailure::AnswerLost)
        .expect("ordering a failure");
    let lost = walk.room.postroom(&["run", "--once"]);
    assert_eq!(lost.status.code(), Some(1), "{}", both(&lost));
    assert_asks_for_a_sign_in(&walk);
}

#[test]
fn who_interrupts_a_command_waits_for_the_refresh_under_way() {
    let case = Case::named("code-public");
    let mut walk = Walk::new(&case, short_lived());
    walk.room.set_env("RUST_LOG", "postroom_auth=debug");
    walk.sign_in();
    walk.carry("first");
    walk.outlive_token();
    let asked = walk.requests().len();
    let directory = walk.room.directory();
    let only = Only {
        tenant: Some(&directory),
        ..Only::default()
    };
    let authority = walk.room.stand.authority();
    let slow = AuthorityFailure::Delay { millis: 3000 };
    authority
        .fail_only(Endpoint::Token, 1, only, slow)
        .expect("ordering a delay");
    let test = walk.room.talk(&["mailbox", "test", "support"]);
    test.await_stderr("requesting an access token");
    test.interrupt();
    let ended = test.end();
    assert_eq!(ended.status.code(), Some(130), "{}", both(&ended));
    assert_eq!(walk.requests().len(), asked + 1, "{}", both(&ended));

    walk.outlive_token();
    walk.carry("second");
    walk.assert_renewed(asked);
}

#[test]
fn who_needs_no_person_goes_on_wherever_it_was_killed() {
    let case = Case::named("app-secret");
    for point in POINTS {
        let walk = Walk::new(&case, short_lived());
        walk.room.once_killed_at(point);
        walk.carry("after");
        assert_eq!(walk.status()["state"], "ok");
    }
}
