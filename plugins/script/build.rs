//! Requests a stack no larger than needed: the host clears all of it after every mail, including parts that no script used.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        // QuickJS stops at 256 KiB (`STACK_BYTES`); the rest is for the code above it.
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=393216");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
