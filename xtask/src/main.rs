//! Development commands of forwarder.
fn main() {}
