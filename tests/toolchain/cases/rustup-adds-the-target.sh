# The target is missing and rustup can fetch it.
have="rustup cargo clang llvm-ar" adds=yes debian="cargo rustc source wasm-ld"
out=('^guest_toolchain=rustup$' '^guest_cargo=cargo$')
err=('added by rustup')
asked=('^target add wasm32-unknown-unknown$')
