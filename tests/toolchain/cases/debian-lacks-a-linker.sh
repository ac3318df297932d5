have="clang-19 llvm-ar-19" debian="cargo rustc source" choice=debian status=1
err=('lacks wasm-ld-19' 'cure: apt-get install .*lld-19')
