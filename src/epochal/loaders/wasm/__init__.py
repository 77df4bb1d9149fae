"""WebAssembly plugins: `namespace` is where to begin; docs/wasm.md is the authors' side of it."""
