have="rustup cargo llvm-ar" listed=wasm32-unknown-unknown status=1
err=('no clang that compiles for wasm32' 'cure: apt-get install clang-19')
