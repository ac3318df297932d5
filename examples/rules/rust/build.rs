//! Requests a small stack: the host clears all of it after every mail, and the linker's default of one mebibyte costs 20 µs.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=131072");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
