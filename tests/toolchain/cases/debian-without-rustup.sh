have="clang-19 llvm-ar-19 wasm-ld-19" debian="cargo rustc source"
out=('^guest_toolchain=debian$')
