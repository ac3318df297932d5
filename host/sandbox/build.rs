//! Passes the paths of the built guests to the compiler, which embeds them.

use std::env;
use std::path::PathBuf;

fn main() -> Result<(), String> {
    let folder = match env::var_os("POSTROOM_GUESTS") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests"),
    };
    println!("cargo::rerun-if-env-changed=POSTROOM_GUESTS");
    for (guest, variable) in [
        ("script.wasm", "POSTROOM_GUEST_SCRIPT"),
        ("standard.wasm", "POSTROOM_GUEST_STANDARD"),
        ("typescript.wasm", "POSTROOM_GUEST_TYPESCRIPT"),
    ] {
        let path = folder.join(guest);
        println!("cargo::rerun-if-changed={}", path.display());
        let path = path
            .canonicalize()
            .map_err(|error| format!("{}: {error}; run `make guests` first", path.display()))?;
        println!("cargo::rustc-env={variable}={}", path.display());
    }
    Ok(())
}
