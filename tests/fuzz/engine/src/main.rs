//! The fuzzer: libFuzzer around one target, which `POSTROOM_FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;
use std::{env, fs};

use libfuzzer_sys::fuzz_target;
use postroom_fuzz::{TARGETS, Target, seeds};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("POSTROOM_FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("POSTROOM_FUZZ_TARGET={name} is not a target"))
});

/// Writes the target's seeds to the folder that `POSTROOM_FUZZ_SEEDS` names, before libFuzzer reads it.
fn write_seeds() {
    let Ok(folder) = env::var("POSTROOM_FUZZ_SEEDS") else {
        return;
    };
    let seeds = seeds(TARGET.name).expect("the cases are readable");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(format!("{folder}/seed-{number}"), seed)
            .expect("the folder of seeds is writable");
    }
}

fuzz_target!(init: write_seeds(), |bytes: &[u8]| (TARGET.run)(bytes));
