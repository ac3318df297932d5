//! Runs each fuzz target over its seeds, complete and cut, so that every target keeps working and no finding returns.

use std::panic::catch_unwind;

use postroom_fuzz::{TARGETS, seeds};

#[test]
fn each_target_holds_on_its_seeds() {
    for target in &TARGETS {
        let seeds = seeds(target.name).unwrap();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in &seeds {
            for end in [seed.len(), seed.len() / 2, seed.len() / 3] {
                let input = &seed[..end];
                let held = catch_unwind(|| (target.run)(input));
                assert!(held.is_ok(), "{}: {}", target.name, input.escape_ascii());
            }
        }
    }
}
