# The target is missing and rustup could fetch it: nothing is downloaded unasked, Debian's packages serve.
have="rustup cargo clang-19 llvm-ar-19 wasm-ld-19" debian="cargo rustc source" adds=yes
out=('^guest_toolchain=debian$' '^guest_cargo=.*/debian/cargo$' '^guest_flags=\(-Zbuild-std=std,panic_abort\)$'
  '^export RUSTC_BOOTSTRAP=1 RUSTC=.*/debian/rustc$' 'LINKER=.*/wasm-ld-19$' 'CC_wasm32_unknown_unknown=clang-19 AR_wasm32_unknown_unknown=llvm-ar-19$')
err=("Debian's packages")
unasked=('^target add')
