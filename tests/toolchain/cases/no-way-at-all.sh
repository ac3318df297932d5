have="rustup cargo clang llvm-ar" status=1
err=('lacks .*/debian/cargo' 'cure: rustup target add wasm32-unknown-unknown; or apt-get install rustc-web')
unasked=('^target add')
