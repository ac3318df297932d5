# Chosen by hand: Debian's packages are no way out.
have="rustup cargo clang llvm-ar wasm-ld-19" debian="cargo rustc source" choice=rustup status=1
err=('not installed and rustup could not add it' 'cure: rustup target add wasm32-unknown-unknown')
asked=('^target add')
