//! Components that expect WASI run in an environment in which nothing can be reached and no time passes.

use std::time::Duration;

use postroom_core::Action;
use postroom_sandbox::{Limits, inspect};

use crate::guests::extended;
use crate::support::{component, decide};

/// As much of WASI 0.2 as the test needs.
const WIT: &str = r#"
package a:b;

package wasi:io@0.2.0 {
    interface poll {
        resource pollable { block: func(); }
    }
    interface error {
        resource error;
    }
    interface streams {
        use error.{error};
        variant stream-error { last-operation-failed(error), closed }
        resource output-stream {
            blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
        }
    }
}

package wasi:cli@0.2.0 {
    interface stdout {
        use wasi:io/streams@0.2.0.{output-stream};
        get-stdout: func() -> output-stream;
    }
}

package wasi:clocks@0.2.0 {
    interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        subscribe-duration: func(when: u64) -> pollable;
    }
    interface wall-clock {
        record datetime { seconds: u64, nanoseconds: u32 }
        now: func() -> datetime;
    }
}

package wasi:random@0.2.0 {
    interface random {
        get-random-u64: func() -> u64;
    }
}

world other {
    include postroom:plugin/rule@2.0.0;
    import wasi:cli/stdout@0.2.0;
    import wasi:clocks/monotonic-clock@0.2.0;
    import wasi:clocks/wall-clock@0.2.0;
    import wasi:io/poll@0.2.0;
    import wasi:io/streams@0.2.0;
    import wasi:random/random@0.2.0;
}
"#;

const IMPORTS: &str = r#"
    (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
        (func $write (param i32 i32 i32 i32)))
    (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
        (func $after (param i64) (result i32)))
    (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $wait (param i32)))
    (import "wasi:clocks/wall-clock@0.2.0" "now" (func $now (param i32)))
    (import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))"#;

/// Sleeps for an hour, prints, reads the clock, and ignores the mail with a reason of random length.
const BODY: &str = r#"
    (call $wait (call $after (i64.const 3600000000000)))
    (i64.store (i32.const 256) (i64.const 0x0a6f6c6c6568))
    (call $write (call $stdout) (i32.const 256) (i32.const 6) (i32.const 512))
    (call $now (i32.const 520))
    (if (i64.ne (i64.load (i32.const 520)) (i64.const 1762160401)) (then unreachable))
    (i32.store8 (i32.const 1028) (i32.const 1))
    (i32.store (i32.const 1032) (i32.const 2048))
    (i32.store (i32.const 1036) (i32.const 1))
    (i32.store8 (i32.const 2048) (i32.const 5))
    (i32.store (i32.const 2056) (i32.const 4096))
    (i32.store (i32.const 2060) (i32.and (i32.wrap_i64 (call $random)) (i32.const 0xfff)))
    (i32.const 1024)"#;

#[test]
fn nothing_is_reached_and_no_time_passes() {
    let bytes = extended(WIT, IMPORTS, BODY);
    assert!(inspect(&bytes).unwrap().needs_wasi());
    let rule = component(&bytes, &Limits::default()).unwrap();
    let reasons: Vec<_> = (0..3)
        .map(|_| {
            let run = decide(&rule);
            assert!(run.elapsed < Duration::from_secs(1));
            assert_eq!(run.log, ["output: hello"]);
            match run.verdict.unwrap().unwrap().as_slice() {
                [Action::Ignore { reason }] => reason.len(),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(reasons[0], reasons[1]);
    assert_eq!(reasons[1], reasons[2]);
}
