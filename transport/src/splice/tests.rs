//! A splice over real sockets.
