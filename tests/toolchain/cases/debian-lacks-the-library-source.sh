have="clang-19 llvm-ar-19 wasm-ld-19" debian="cargo rustc" choice=debian status=1
err=('lacks the library source' 'cure: apt-get install .*rust-web-src')
