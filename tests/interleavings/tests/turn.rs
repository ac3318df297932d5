//! Token requests in random orders: one at a time, none repeated, and the result is kept if its caller leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postroom_interleavings::turn::{Holding, KnownOutcomes, Turn};
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::sync::Mutex;
use shuttle::{check_pct, check_random};

/// The number of schedules tried for each model.
const SCHEDULES: usize = 2_000;
/// The number of points at which a schedule of the PCT scheduler deviates from the tasks' priorities.
const DEPTH: usize = 4;

/// An account whose server accepts each refresh token once: a second request with the same one would sign it out.
#[derive(Default)]
struct Account {
    turn: Turn,
    token: Mutex<Option<usize>>,
    /// The failure of the last request, for callers that arrived before it ended.
    failed: Mutex<Option<&'static str>>,
    refresh_token: AtomicUsize,
    under_way: AtomicUsize,
    requests: AtomicUsize,
}

fn check(model: fn()) {
    check_random(model, SCHEDULES);
    check_pct(model, SCHEDULES, DEPTH);
}

/// Requests a token; the request is a separate task, as in `Tokens`.
async fn token(account: Arc<Account>, server_fails: bool) -> Result<usize, &'static str> {
    let known = KnownOutcomes {
        fresh: || *account.token.lock().expect("no task panicked"),
        good: || None,
        failed: || *account.failed.lock().expect("no task panicked"),
    };
    let request = |holding| {
        let request = spawn(request(account.clone(), holding, server_fails));
        async move { request.await.expect("it was not aborted") }
    };
    account.turn.share(known, request).await
}

async fn request(
    account: Arc<Account>,
    holding: Holding,
    server_fails: bool,
) -> Result<usize, &'static str> {
    assert_eq!(
        account.under_way.fetch_add(1, Ordering::SeqCst),
        0,
        "two requests at once"
    );
    account.requests.fetch_add(1, Ordering::SeqCst);
    let sent = account.refresh_token.load(Ordering::SeqCst);
    yield_now().await;
    let answer = match server_fails {
        true => Err("no answer"),
        false => Ok(sent + 1),
    };
    match answer {
        Ok(token) => {
            let used = account.refresh_token.swap(token, Ordering::SeqCst);
            assert_eq!(used, sent, "a refresh token was sent twice");
            *account.token.lock().expect("no task panicked") = Some(token);
        }
        Err(error) => *account.failed.lock().expect("no task panicked") = Some(error),
    }
    account.under_way.fetch_sub(1, Ordering::SeqCst);
    drop(holding);
    answer
}

/// Runs callers that stay and callers that leave, concurrently; returns the outcomes of those that stay, and the account.
fn callers(server_fails: bool) -> (Vec<Result<usize, &'static str>>, Arc<Account>) {
    let account = Arc::new(Account::default());
    let outcomes = block_on(async {
        let leaves = [0, 1].map(|_| spawn(token(account.clone(), server_fails)));
        let stays = [0, 1, 2].map(|_| spawn(token(account.clone(), server_fails)));
        yield_now().await;
        leaves.iter().for_each(|caller| caller.abort());
        let mut outcomes = Vec::new();
        for caller in stays {
            outcomes.push(caller.await.expect("it was not aborted"));
        }
        for caller in leaves {
            let _ = caller.await;
        }
        outcomes
    });
    (outcomes, account)
}

#[test]
fn callers_share_one_request_whoever_of_them_leaves() {
    check(|| {
        let (outcomes, account) = callers(false);
        assert_eq!(outcomes, [Ok(1); 3]);
        assert_eq!(account.requests.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn callers_share_a_failure_too() {
    check(|| {
        let (outcomes, account) = callers(true);
        assert_eq!(outcomes, [Err("no answer"); 3]);
        assert_eq!(account.requests.load(Ordering::SeqCst), 1);
        assert!(account.turn.try_take().is_some(), "the turn was lost");
    });
}
