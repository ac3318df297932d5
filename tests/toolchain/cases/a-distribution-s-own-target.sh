# No rustup, but a rustc that has the target.
have="cargo rustc clang llvm-ar"
mkdir -p "$work/a-distribution-s-own-target.sh/sysroot/lib/rustlib/wasm32-unknown-unknown/lib"
out=('^guest_toolchain=installed$')
