//! Sign-in as a person does it: a real browser on the real pages, redirected to the listener of `auth login`.

use postroom_e2e::both;
use postroom_e2e::grants::{Case, Walk};
use postroom_stand::{Browser, PASSWORD, Stand, wait_for};

fn text_of(browser: &Browser, words: &str) -> String {
    let mut text = String::new();
    wait_for(postroom_e2e::PATIENCE, || {
        text = browser.text().unwrap_or_default();
        text.contains(words)
    });
    text
}

fn fill_in(browser: &Browser, user: &str) {
    browser.fill("#user", user).expect("the user's field");
    browser
        .fill("#password", PASSWORD)
        .expect("the password's field");
    browser.click("#sign-in").expect("the button");
}

#[test]
fn a_browser_ends_on_a_page_that_says_how_it_went() {
    let stand = Stand::shared().expect("the test stand");
    let browser = stand.browser().expect("a browser");

    let case = Case::named("code-public");
    let walk = Walk::new(&case, stand);
    let session = walk.room.talk(&["auth", "login", "acme"]);
    browser.open(&session.address()).expect("the sign-in page");
    fill_in(&browser, &walk.room.user);
    browser.click("#accept").expect("the consent");
    let page = text_of(&browser, "You are signed in");
    assert!(page.contains("You are signed in"), "{page}");
    let output = session.end();
    assert!(output.status.success(), "{}", both(&output));
    walk.carry("signed in by a browser");

    let case = Case::named("code-confidential");
    let walk = Walk::new(&case, stand);
    let session = walk.room.talk(&["auth", "login", "acme"]);
    browser.open(&session.address()).expect("the sign-in page");
    fill_in(&browser, &walk.room.user);
    browser.click("#decline").expect("the consent");
    let page = text_of(&browser, "refused");
    assert!(page.contains("The sign-in was refused"), "{page}");
    let output = session.end();
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("65004") && said.contains("consent"), "{said}");
}

#[test]
fn a_device_is_signed_in_on_its_page() {
    let stand = Stand::shared().expect("the test stand");
    let browser = stand.browser().expect("a browser");
    let case = Case::named("device-public");
    let walk = Walk::new(&case, stand);
    let session = walk.room.talk(&["auth", "login", "acme"]);
    let code = session.user_code();
    browser.open(&session.address()).expect("the device page");
    browser.fill("#user-code", &code).expect("the code's field");
    browser.click("#next").expect("the button");
    text_of(&browser, "Is this your device?");
    browser.click("#next").expect("the button");
    fill_in(&browser, &walk.room.user);
    browser.click("#accept").expect("the consent");
    let page = text_of(&browser, "You have signed in");
    assert!(page.contains("You have signed in"), "{page}");
    assert!(session.end().status.success());
    walk.carry("signed in by a code");
}
