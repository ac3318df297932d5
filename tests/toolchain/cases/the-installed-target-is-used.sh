# The target is there: nothing is fetched.
have="rustup cargo clang llvm-ar" listed=wasm32-unknown-unknown debian="cargo rustc source"
out=('^guest_toolchain=installed$' '^guest_cargo=cargo$' '^guest_flags=\(\)$' 'CC_wasm32_unknown_unknown=clang AR_wasm32_unknown_unknown=llvm-ar$')
err=('the installed target wasm32-unknown-unknown')
asked=('^target list --installed$') unasked=('^target add')
