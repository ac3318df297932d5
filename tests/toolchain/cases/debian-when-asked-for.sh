# Chosen by hand: rustup is not even asked.
have="rustup cargo clang-19 llvm-ar-19 wasm-ld-19" listed=wasm32-unknown-unknown adds=yes debian="cargo rustc source" choice=debian
out=('^guest_toolchain=debian$')
unasked=('.')
