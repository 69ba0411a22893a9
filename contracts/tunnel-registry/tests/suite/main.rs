//! The registry's tests, each on the native and on the wasm build.

mod archival;
mod attacks;
mod authority;
mod calls;
mod costs;
mod exploration;
mod growth;
mod scene;
mod stewardship;
