# The target is missing, and whoever builds wants it from rustup.
have="rustup cargo clang llvm-ar" adds=yes choice=rustup debian="cargo rustc source wasm-ld"
out=('^guest_toolchain=rustup$' '^guest_cargo=cargo$')
err=('added by rustup')
asked=('^target add wasm32-unknown-unknown$')
