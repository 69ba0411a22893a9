//! The namespace's tests, each on the native and on the wasm build.

mod administration;
mod archival;
mod attacks;
mod authority;
mod calls;
mod commitment;
mod costs;
mod domains;
mod exploration;
mod lease;
mod scene;
